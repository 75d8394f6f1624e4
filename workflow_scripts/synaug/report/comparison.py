"""Which two networks the report compares: the baseline and the main recipe."""

import pandas as pd

from synaug.config import Config

Network = tuple[str, str]  # recipe, stage


def compared_networks(config: Config, chosen: pd.DataFrame | None = None) -> list[Network]:
    """The baseline at its last stage, and the main recipe; one network if there is only one recipe.

    chosen: the manifest of this name, if the experiment chooses a recipe. Then the main recipe is the chosen one, at
    the chosen stage, unless it is the baseline. Otherwise it is the one called `synaug`; otherwise the first whose name
    starts with `synaug`; otherwise the last one that trains on synthetic images; otherwise the last one. It is at its
    last stage. A recipe that was dropped after some of the seeds is the main recipe only if all others were. It is not
    chosen by its results on the test images, since that would overstate them.
    """
    baseline = (config.evaluation.baselines or list(config.recipes))[0]
    others = [name for name in config.recipes if name != baseline]
    if chosen is not None:
        [best] = chosen[chosen["chosen"]].itertuples()
        if (best.recipe, best.stage) != _last_stage(config, baseline):
            return [_last_stage(config, baseline), (best.recipe, best.stage)]
        dropped = set(chosen.loc[chosen["seeds"] < best.seeds, "recipe"])
        others = [name for name in others if name not in dropped] or others
    named_synaug = sorted((name for name in others if name.startswith("synaug")), key=lambda name: name != "synaug")
    with_synthetic = [name for name in others if config.recipes[name].data == "balanced"]
    main_recipe = named_synaug[:1] or with_synthetic[-1:] or others[-1:]
    return [_last_stage(config, name) for name in [baseline, *main_recipe]]


def _last_stage(config: Config, recipe: str) -> Network:
    return recipe, "finetune" if config.recipes[recipe].stage2 else "train"
