"""A study: one config that stands for many experiments, and what comes of all of them together."""

import copy
from collections.abc import Iterable
from typing import Any

import pandas as pd

from synaug.runtime.errors import UserError


def experiments(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Variant -> its whole config, from a config with a block `study`.

    A variant is the config with some keys replaced; blocks are merged key by key. Where it gives `recipes` as a list,
    it runs these of the config's recipes. Its experiment is called <experiment>-<variant>.
    Raises UserError for a variant that names no recipe of the config, or is no block.
    """
    shared = {key: value for key, value in config.items() if key != "study"}
    made = {}
    for variant, changes in config["study"].items():
        if not isinstance(changes or {}, dict):
            raise UserError(f"config: study.{variant}: {changes!r}: should be a block of keys that differ")
        changes = dict(changes or {})
        one = copy.deepcopy(shared)
        chosen = changes.get("recipes")
        if isinstance(chosen, list):
            del changes["recipes"]
            for name in chosen:
                if name not in shared["recipes"]:
                    there = ", ".join(shared["recipes"])
                    raise UserError(f"config: study.{variant}.recipes: there is no recipe {name!r} (there: {there})")
            one["recipes"] = {name: one["recipes"][name] for name in chosen}
            evaluation = one.get("evaluation") or {}
            baselines = evaluation.get("baseline") or []
            baselines = [baselines] if isinstance(baselines, str) else baselines
            left = [name for name in baselines if name in chosen]
            one["evaluation"] = {**evaluation, "baseline": left or None}
        made[variant] = _merge(one, changes) | {"experiment": f"{config['experiment']}-{variant}"}
    return made


def collect(variants: Iterable[str], tables: list[pd.DataFrame]) -> pd.DataFrame | None:
    """Manifests of one kind, one for each of `variants`, in one with a column `variant`; None: there are none."""
    if not tables:
        return None
    return pd.concat([table.assign(variant=name) for name, table in zip(variants, tables, strict=True)])


def _merge(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(config)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(config.get(key), dict)
        merged[key] = _merge(config[key], value) if both else value
    return merged
