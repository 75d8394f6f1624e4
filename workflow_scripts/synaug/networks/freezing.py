"""Freezing: parts of a network that a training does not change."""

from torch import nn

from synaug.networks.classifier import Classifier
from synaug.runtime.errors import UserError


def freeze(model: Classifier, part: str | int) -> None:
    """Freeze the body of `model` (backbone) or its first stages (a number); none: nothing.

    Frozen weights get no gradient, and batch normalisation in a frozen part uses the statistics that it has. The
    stages of a network of timm are its coarse layer groups (`group_matcher`): the stem, then its stages.
    Raises UserError if the network has fewer stages.
    """
    if part == "none":
        return
    for module in [model.body] if part == "backbone" else _first_stages(model, part):
        module.requires_grad_(False).eval()


def _first_stages(model: Classifier, count: int) -> list[nn.Module]:
    """The layers of the first `count` stages of a body of timm."""
    from timm.models import group_modules

    stages = group_modules(model.body, model.body.group_matcher(coarse=True))
    if count > len(stages):
        raise UserError(f"freeze: {count}: {model.config['backbone']} has only {len(stages)} stages", advice="lower it")
    return [model.body.get_submodule(name) for stage in sorted(stages)[:count] for name in stages[stage]]
