"""The recipes of `recipes: auto`, without and with synthetic images. `evaluation.choose_by` chooses among them."""

from collections.abc import Iterable
from typing import Any

_REBALANCED = {"loss": {"name": "balanced_softmax"}}
_MIXED = {"mixup": {"alpha": 0.2}, **_REBALANCED}

# The keys that differ from the block `training`. Each recipe is a candidate before and after its fine-tune.
PORTFOLIO = {
    "real": {"data": "real", "stage2": {}},
    "real_rebalanced": {"data": "real", "stage1": _REBALANCED, "stage2": {}},
    "real_mixed": {"data": "real", "stage1": _MIXED, "stage2": {}},
    # Synthetic images first, then real images only (From Fake to Real, Qraitem et al. 2023).
    "synthetic_first": {"data": "balanced", "stage1": {"synthetic_first": 0.4, **_REBALANCED}, "stage2": {}},
    "filled_as_many_as_real": {"data": "balanced", "fill": {"per_real": 1.0}, "stage1": _MIXED, "stage2": {}},
    "filled_quarter": {"data": "balanced", "fill": {"share": 0.25}, "stage1": _REBALANCED, "stage2": {}},
    # The method of the paper.
    "synaug": {"data": "balanced", "stage1": {"mixup": {"alpha": 0.2}}, "stage2": {}},
}


def portfolio(fills: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """The recipes of PORTFOLIO. With several fills, those with synthetic images once for each, as <recipe>_<fill>."""
    fills = list(fills)
    if len(fills) < 2:
        return PORTFOLIO
    recipes = {name: keys for name, keys in PORTFOLIO.items() if keys["data"] == "real"}
    for name in [name for name in PORTFOLIO if name not in recipes]:
        for fill in fills:
            with_fill = {**PORTFOLIO[name].get("fill", {}), "name": fill}
            recipes[f"{name}_{fill}"] = {**PORTFOLIO[name], "fill": with_fill}
    return recipes
