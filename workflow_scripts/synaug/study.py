"""A study: one config that describes several experiments, its variants."""

import copy
from collections.abc import Iterable
from typing import Any

import pandas as pd

from synaug.runtime.errors import UserError


def variant_configs(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Variant -> its whole config, from a config with a block `study`.

    A variant replaces some keys of the config; blocks are merged key by key. If its `recipes` is a list, it runs only
    these recipes of the config. Its experiment is called <experiment>-<variant>.
    Raises UserError if a variant is not a block, or lists a recipe that the config does not have.
    """
    shared = {key: value for key, value in config.items() if key != "study"}
    configs = {}
    for variant, changes in config["study"].items():
        if not isinstance(changes or {}, dict):
            raise UserError(f"config: study.{variant}: {changes!r}: should be a block of keys that differ")
        changes = dict(changes or {})
        base = copy.deepcopy(shared)
        if isinstance(changes.get("recipes"), list):
            base = _with_recipes(base, changes.pop("recipes"), variant)
        configs[variant] = _merge(base, changes) | {"experiment": f"{config['experiment']}-{variant}"}
    return configs


def concatenate_variants(variants: Iterable[str], tables: list[pd.DataFrame]) -> pd.DataFrame | None:
    """Manifests of one kind, one for each of `variants`, as one with a column `variant`; None without any."""
    if not tables:
        return None
    return pd.concat([table.assign(variant=name) for name, table in zip(variants, tables, strict=True)])


def _with_recipes(config: dict[str, Any], names: list[str], variant: str) -> dict[str, Any]:
    """`config` with only the recipes `names`, and only the baselines among them."""
    for name in names:
        if name not in config["recipes"]:
            known = ", ".join(config["recipes"])
            raise UserError(f"config: study.{variant}.recipes: there is no recipe {name!r} (known: {known})")
    evaluation = config.get("evaluation") or {}
    baselines = evaluation.get("baseline") or []
    baselines = [baselines] if isinstance(baselines, str) else baselines
    baselines = [name for name in baselines if name in names]
    return config | {
        "recipes": {name: config["recipes"][name] for name in names},
        "evaluation": {**evaluation, "baseline": baselines or None},
    }


def _merge(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(config)
    for key, value in changes.items():
        both_blocks = isinstance(value, dict) and isinstance(config.get(key), dict)
        merged[key] = _merge(config[key], value) if both_blocks else value
    return merged
