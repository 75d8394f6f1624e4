"""The whole config, and its one-line errors."""

import logging
import re
import textwrap
from functools import lru_cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from synaug.config.balance import Balance
from synaug.config.base import Model, Name, Seed
from synaug.config.dataset import Dataset
from synaug.config.evaluation import Evaluation
from synaug.config.generation import Generation
from synaug.config.generator import GeneratorTraining
from synaug.config.imbalance import Imbalance
from synaug.config.prompts import Prompts
from synaug.config.screening import Screening
from synaug.config.training import Recipe, Stage1
from synaug.runtime.errors import UserError

log = logging.getLogger(__name__)


class Config(Model):
    """One experiment."""

    experiment: Name = Field(description="Names the folder results/<experiment>/.")
    seed: Seed = Field(0, description="Base of every seed of generation: another value, other images.")
    dataset: Dataset
    imbalance: Imbalance = Imbalance()
    balance: Balance = Balance()
    prompts: Prompts = Prompts()
    generation: Generation
    screening: Screening = Screening()
    training: Stage1 = Field(Stage1(), description="Stage 1 of every recipe, unless the recipe says otherwise.")
    recipes: dict[Name, Recipe] = Field(min_length=1, description="Recipe name -> recipe.")
    evaluation: Evaluation = Evaluation()
    seeds: list[Seed] = Field([0, 1, 2], min_length=1, description="Every recipe is trained once with each of these.")
    generator: GeneratorTraining | None = Field(None, description="Only for `snakemake train_generator`.")
    study: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], dict[str, Any] | None] | None = Field(
        None, description="Variant -> keys that differ: every variant is an experiment, <experiment>-<variant>."
    )

    @model_validator(mode="before")
    @classmethod
    def _recipes_start_from_training(cls, config: Any) -> Any:
        """Put the top-level `training` under the `stage1` of every recipe, where the recipe does not say otherwise.

        A recipe with `stage1_of` gets the data and the stage 1 of that recipe.
        """
        shared, recipes = config.get("training") or {}, config.get("recipes")
        if not isinstance(shared, dict) or not isinstance(recipes, dict):
            return config
        merged = {}
        for name, recipe in recipes.items():
            own = recipe.get("stage1") if isinstance(recipe, dict) else None
            if isinstance(recipe, dict) and (own is None or isinstance(own, dict)):
                recipe = {**recipe, "stage1": {**shared, **(own or {})}}
            merged[name] = recipe
        for name, recipe in merged.items():
            other = recipe.get("stage1_of") if isinstance(recipe, dict) else None
            if other is not None:
                merged[name] = _with_stage1_of(name, recipes[name], other, merged)
        return {**config, "recipes": merged}

    @model_validator(mode="after")
    def _groups_are_there_where_they_are_used(self):
        columns = self.dataset.group_columns
        if self.evaluation.shortcut_images and not columns:
            raise ValueError("evaluation.shortcut_images needs dataset.group_columns")
        allowed = ["label", "modifier", *(["group", *columns] if columns else [])]
        for template in self.prompts.templates:
            for name in re.findall(r"\{([^{}]*)\}?", template):
                if name not in allowed:
                    can = ", ".join(f"{{{one}}}" for one in allowed)
                    raise ValueError(f"prompts.templates: {template!r}: there is no {{{name}}} (there: {can})")
        if self.balance.strategy.startswith("largest_of_") and not columns:
            raise ValueError(f"balance.strategy: {self.balance.strategy} needs dataset.group_columns")
        for name, recipe in self.recipes.items():
            if recipe.stage1.group_dro is not None and not columns:
                raise ValueError(f"recipes.{name}: stage1.group_dro needs dataset.group_columns")
            for stage in (recipe.stage1, recipe.stage2):
                if stage and stage.sampling == "group_balanced" and not columns:
                    raise ValueError(f"recipes.{name}: sampling: group_balanced needs dataset.group_columns")
        return self

    @field_validator("evaluation")
    @classmethod
    def _baseline_is_a_recipe(cls, evaluation: Evaluation, info: ValidationInfo) -> Evaluation:
        recipes = info.data.get("recipes")  # not there if they are at fault themselves
        if recipes and not set(evaluation.baselines) <= recipes.keys():
            raise ValueError(f"baseline should be null or of these recipes: {', '.join(recipes)}")
        return evaluation

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("each seed may stand here once")
        return seeds


def _with_stage1_of(name: str, recipe: dict, other: str, recipes: dict) -> dict:
    """`recipe` with data and stage 1 of the recipe `other`. Raises ValueError if that makes no sense."""
    if not isinstance(recipes.get(other), dict) or recipes[other].get("stage1_of") is not None:
        own = [one for one, settings in recipes.items() if isinstance(settings, dict) and not settings.get("stage1_of")]
        raise ValueError(
            f"recipes.{name}.stage1_of: {other!r} should be a recipe with its own stage 1: {', '.join(own)}"
        )
    # A config that was written out whole has them, and they are the same.
    if any(key in recipe and recipe[key] != recipes[other].get(key) for key in ("data", "stage1")):
        raise ValueError(f"recipes.{name}: data and stage1 are those of {other}; leave them out")
    if recipe.get("stage2") is None:
        raise ValueError(f"recipes.{name}: without stage2 it would be {other} again; give it one")
    return {**recipe, "data": recipes[other].get("data"), "stage1": recipes[other].get("stage1")}


def load_config(config: dict[str, Any], where: str = "config") -> Config:
    """Validate the parsed YAML `config`; messages begin with `where`.

    Raises UserError: one line with, for each fault, the key, the value, and what is allowed.
    """
    config, renamed = with_current_names(config)
    for old, new in renamed.items():
        _warn_once(f"synaug: warning: {where}: {old} is now called {new}; the old name works in this version only")
    try:
        return Config.model_validate(config)
    except ValidationError as error:
        faults = error.errors()
        # A recipe inherits `training`, and with it every fault: said once.
        shared = {fault["loc"][1:] for fault in faults if fault["loc"][:1] == ("training",)}
        own = [fault for fault in faults if fault["loc"][2:3] != ("stage1",) or fault["loc"][3:] not in shared]
        raise UserError(f"{where}: " + "; ".join(_describe(fault) for fault in own)) from None


def with_current_names(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """`config` with the current names of keys and values that had another one before 0.2, and the renames: old -> new.

    The old names are read for one version.
    """
    config, renamed = dict(config), {}
    if "generator_training" in config and "generator" not in config:
        config["generator"] = config.pop("generator_training")
        renamed["generator_training"] = "generator"
    recipes = config.get("recipes")
    if isinstance(recipes, dict):
        config["recipes"] = dict(recipes)
        for name, recipe in recipes.items():
            if isinstance(recipe, dict) and recipe.get("data") == "even":
                config["recipes"][name] = recipe | {"data": "subsampled"}
                renamed[f"recipes.{name}.data: even"] = "subsampled"
    return config, renamed


@lru_cache
def _warn_once(text: str) -> None:
    log.warning(text)


def _describe(fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    match fault["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key; allowed here: {', '.join(_fields_at(fault['loc'][:-1]))}"
        case "missing":
            return f"{key}: is missing and has no default"
        case "model_type" | "dict_type":
            return f"{key}: {fault['input']!r}: should be a block of keys"
        case _ if not fault["loc"]:
            return fault["msg"].removeprefix("Value error, ")  # of the whole: it says where
        case _:
            value = textwrap.shorten(repr(fault["input"]), 80)
            return f"{key}: {value}: {fault['msg'].removeprefix('Value error, ')}"


def _fields_at(location: tuple) -> list[str]:
    """The keys that the block at `location` may have."""
    kind: Any = Config
    for part in location:
        if get_origin(kind) in (dict, list):
            kind = get_args(kind)[-1]
        else:
            kind = kind.model_fields[part].annotation
            if type(None) in get_args(kind):
                kind = get_args(kind)[0]
    return sorted(kind.model_fields)
