"""Freezing: parts of a network that a training does not change."""

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
    if part == "backbone":
        model.body.requires_grad_(False).eval()
    else:
        _freeze_first_stages(model, part)


def _freeze_first_stages(model: Classifier, count: int) -> None:
    """Freeze the first `count` stages of a body of timm."""
    from timm.models import group_modules, group_parameters

    matcher = model.body.group_matcher(coarse=True)
    stages, parameters = group_modules(model.body, matcher), group_parameters(model.body, matcher)
    if count > len(stages):
        raise UserError(f"freeze: {count}: {model.config['backbone']} has only {len(stages)} stages", advice="lower it")
    for stage in sorted(stages)[:count]:
        for name in stages[stage]:
            model.body.get_submodule(name).requires_grad_(False).eval()
        for name in parameters[stage]:  # some belong to the network itself, as the positions of a transformer
            model.body.get_parameter(name).requires_grad_(False)
