"""Which two networks the report compares: the baseline and the main recipe."""

from synaug.config import Config

Network = tuple[str, str]  # recipe, stage


def compared_networks(config: Config) -> list[Network]:
    """The baseline and the main recipe, each at its last stage; one network if there is only one recipe.

    The main recipe is the one called `synaug`; otherwise the first whose name starts with `synaug`; otherwise the last
    one that trains on synthetic images; otherwise the last one. It is not chosen by its results, since that would
    overstate them.
    """
    baseline = (config.evaluation.baselines or list(config.recipes))[0]
    others = [name for name in config.recipes if name != baseline]
    named_synaug = sorted((name for name in others if name.startswith("synaug")), key=lambda name: name != "synaug")
    with_synthetic = [name for name in others if config.recipes[name].data == "balanced"]
    main_recipe = named_synaug[:1] or with_synthetic[-1:] or others[-1:]
    return [(name, "finetune" if config.recipes[name].stage2 else "train") for name in [baseline, *main_recipe]]
