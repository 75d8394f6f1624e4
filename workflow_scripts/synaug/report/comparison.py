"""Which two networks the report sets side by side: the baseline, and the method."""

from synaug.config import Config

Network = tuple[str, str]  # recipe, stage


def compared(config: Config) -> list[Network]:
    """The baseline and the main recipe, each as its last stage leaves it; one network if there is one recipe only.

    The main recipe is the one called `synaug` (or else the first whose name begins so), or else the last one that is
    trained on synthetic images, or else the last one. It is not chosen by its results: that would make them look
    better than they are.
    """
    baseline = (config.evaluation.baselines or list(config.recipes))[0]
    others = [name for name in config.recipes if name != baseline]
    named = sorted((name for name in others if name.startswith("synaug")), key=lambda name: name != "synaug")
    filled = [name for name in others if config.recipes[name].data == "balanced"]
    chosen = [baseline, *(named[:1] or filled[-1:] or others[-1:])]
    return [(name, "finetune" if config.recipes[name].stage2 else "train") for name in chosen]
