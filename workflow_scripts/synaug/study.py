"""A study: one config that describes several experiments, its variants."""

import copy
import re
from collections.abc import Iterable
from os.path import realpath
from typing import Any

import pandas as pd

from synaug.config import Config
from synaug.config.portfolio import portfolio
from synaug.runtime.errors import UserError


def variant_configs(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Variant -> its whole config, from a config with a block `study`.

    A variant replaces some keys of the config; blocks are merged key by key. If its `recipes` is a list, it runs only
    these recipes of the config. Its experiment is called <experiment>-<variant>.
    Raises UserError if a variant is not a block, names an experiment or has variants itself, or lists a recipe that the
    config does not have.
    """
    shared = {key: value for key, value in config.items() if key != "study"}
    configs = {}
    for variant, changes in config["study"].items():
        if not isinstance(changes or {}, dict):
            raise UserError(f"config: study.{variant}: {changes!r}: should be a block of keys that differ")
        changes = dict(changes or {})
        for key, why in (
            ("experiment", f"is always {config['experiment']}-{variant}"),
            ("study", "a variant has no variants of its own"),
        ):
            if key in changes:
                raise UserError(f"config: study.{variant}.{key}: {why}", advice="leave it out")
        base = copy.deepcopy(shared)
        if isinstance(changes.get("recipes"), list):
            if base.get("recipes") == "auto":
                fills: dict[str, Any] = {}
                for block in (base, changes):
                    fills |= block["fills"] if isinstance(block.get("fills"), dict) else {}
                base["recipes"] = portfolio(fills)
            base = _with_recipes(base, changes.pop("recipes"), variant)
        configs[variant] = _merge(base, changes) | {"experiment": f"{config['experiment']}-{variant}"}
    return configs


def check_trainings(configs: dict[str, Config]) -> None:
    """Raise UserError if two variants would train the same generator or adapter. configs: variant -> its config."""
    for key, block, rule in (
        ("generator.output", "generator", "train_generator"),
        ("adaptation.output", "adaptation", "adapt_generator"),
    ):
        first: dict[str, str] = {}  # folder -> the variant that trains it
        for variant, config in configs.items():
            fills = config.generation_of_fills.values()
            if block == "generator":
                used = any(config.trains_model(fill.model) for fill in fills)
            else:
                used = any(config.trains_adapter(adapter.model) for fill in fills for adapter in fill.adapters)
            if not used:
                continue
            output = getattr(config, block).output
            if (other := first.setdefault(realpath(output), variant)) != variant:
                raise UserError(
                    f"config: study: {other} and {variant} would both train {output} ({key})",
                    advice=f"train it first, with `snakemake {rule}` and a config of its own, and leave {block} out of "
                    "the study; or give each variant another folder",
                )


def group_replicates(configs: dict[str, Config]) -> dict[str, list[str]]:
    """Name of a result -> its variants, in the order of `configs` (variant -> its config).

    Two or more variants called <name>_seed<number> are replicates: one experiment that is done again with other seeds,
    of the synthetic images too. Their result is called <name>. Every other variant is a result of its own.
    Raises UserError if replicates differ in more than their seeds (and the folder of a generator that each of them
    trains), if they share a seed, if one has several training seeds (networks with the same images are not
    independent, so that an interval over all of them would be too narrow), or if a variant has the name of the result.
    """
    results: dict[str, list[str]] = {}
    for variant in configs:
        results.setdefault(re.sub(r"_seed\d+$", "", variant), []).append(variant)
    for name, variants in list(results.items()):
        if len(variants) == 1:
            results = {variants[0] if key == name else key: value for key, value in results.items()}
            continue
        if name in variants:
            raise UserError(f"config: study.{name}: is the name of the result of {name}_seed<number> too; rename it")
        members = [configs[variant] for variant in variants]
        where = f"config: study.{name}_seed<number>"
        for variant, member in zip(variants, members, strict=True):
            if _without_seeds(member) != _without_seeds(members[0]):
                raise UserError(f"{where}: {variant} and {variants[0]} may differ in seed and seeds only; rename one")
            if len(member.seeds) != 1:
                raise UserError(f"{where}: {variant} has the seeds {member.seeds}; give it one training seed")
        for key in ("seed", "seeds"):
            values = [str(getattr(member, key)) for member in members]
            if len(set(values)) < len(values):
                raise UserError(f"{where}: {key} is {', '.join(values)}; each of them needs another {key}")
    return results


def _trains_generator(config: Config) -> bool:
    """Whether the images of an experiment come from a generator that it trains itself."""
    return config.trains_model(config.generation.model)


def _without_seeds(config: Config) -> dict[str, Any]:
    """`config` without what replicates may differ in."""
    values = config.model_dump(exclude={"experiment", "seed", "seeds", "study"})
    if _trains_generator(config):
        own = config.experiment
        values["generator"] |= {"output": None, "images": values["generator"]["images"].replace(own, "<experiment>")}
        values["generation"] |= {"model": None}
        for fill in values["fills"].values():
            if config.trains_model(fill["model"]):
                fill["model"] = None
    return values


def varied_by_replicates(config: Config) -> str:
    """What differs between the replicates of `config`, as in the column `varied` of the manifest `summary`."""
    return "training seed, synthetic images" + (", generator" if _trains_generator(config) else "")


def concatenate_variants(variants: Iterable[str], tables: list[pd.DataFrame]) -> pd.DataFrame | None:
    """Manifests of one kind, one for each of `variants`, as one with a column `variant`; None without any."""
    if not tables:
        return None
    return pd.concat([table.assign(variant=name) for name, table in zip(variants, tables, strict=True)])


def _with_recipes(config: dict[str, Any], names: list[str], variant: str) -> dict[str, Any]:
    """`config` with only the recipes `names`, and only the baselines among them."""
    for name in names:
        if not isinstance(name, str) or name not in config["recipes"]:
            known = ", ".join(config["recipes"])
            raise UserError(
                f"config: study.{variant}.recipes: there is no recipe {name!r} (known: {known})",
                advice="name one of them",
            )
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
