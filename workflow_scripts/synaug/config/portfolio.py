"""The recipes of `recipes: auto`, without and with synthetic images. `evaluation.choose_by` chooses among them."""

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
