"""The whole config, and its one-line errors."""

import re
import textwrap
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from synaug.config.base import Model, Name, Seed
from synaug.config.evaluation import Evaluation
from synaug.config.generation import Balance, Generation, Prompts
from synaug.config.screening import Screening
from synaug.config.training import GeneratorTraining, Recipe, Stage1
from synaug.errors import UserError

_PACKED = ("webdataset", "huggingface")
_GROUPED = ("table", *_PACKED, "utkface", "waterbirds", "celeba")
_PUBLISHED = ("cifar10", "cifar100", "fashion_mnist")
_UNVALIDATED = (*_PUBLISHED, "utkface")  # their authors name training and test images only
_SPLIT_HERE = ("folder", "table", *_PACKED, "torchvision")
_DOWNLOADED = (*_PUBLISHED, "torchvision")  # sources that make_splits is for


class Painted(Model):
    """Grey images in colours that go with the class in training and not in the test: a spurious cue made to measure."""

    strength: float = Field(ge=0, le=1, description="Share of a class's training images that have its own colour.")
    colors: int = Field(2, ge=2, le=10, description="How many; of two the first half of the classes has the first.")
    seed: Seed = Field(0, description="Which image has which colour.")


class Dataset(Model):
    """Where the real images are and in which form they are used."""

    source: Literal[
        "table",
        "folder",
        "webdataset",
        "huggingface",
        "torchvision",
        "image_list",
        "cifar10",
        "cifar100",
        "fashion_mnist",
        "utkface",
        "waterbirds",
        "celeba",
    ] = Field(
        description="table: Parquet, CSV or JSON lines with one row per image; folder: <path>/<split>/<class>/<image>; "
        "webdataset: tars; huggingface: a data set on disk; torchvision: one of its classes; image_list: text files "
        "that name images and classes; the others: the authors' files."
    )
    path: str = Field(
        description="The table (or a folder of *.parquet tables), the folder of images, or that of the authors' files."
    )
    image_size: int = Field(ge=8, le=1024, description="Side of the square images that networks see, pixels.")
    color: Literal["grey", "rgb"] = Field("rgb", description="Channels of the images: 1 or 3.")
    train_split: str = Field("train", description="Name of the split that is measured, filled and trained on.")
    test_split: str = Field("test", description="Name of the split that is only evaluated on.")
    validation_split: str | None = Field(
        None, description="Name of the split that settings are chosen by; null: none are chosen."
    )
    make_splits: dict[str, float] = Field(
        {}, description="Held-out split -> share of the training images of every class that make it up."
    )
    label_column: str = Field("label", description="What names the class, where columns, keys or attributes do.")
    group_columns: list[str] = Field(
        [], description="Columns, keys or attributes that make the groups; several: their crossing."
    )
    split_column: str = Field("split", description="table only: the column that names the split.")
    image_column: str = Field(
        "image",
        description="table, huggingface: an image struct {bytes, path}, or a path relative to the table's folder.",
    )
    max_megapixels: float = Field(100.0, gt=0, description="A larger image is not decoded but listed with that reason.")
    lists: dict[str, str] | None = Field(
        None, description="image_list only: split -> text file with lines `<path below path> <number of the class>`."
    )
    class_names: str | None = Field(
        None, description="image_list only: text file, line i names class i (from 0), or lines `<WordNet id> <name>`."
    )
    classes: str | None = Field(
        None, description="image_list only: text file of the classes to use, numbers or WordNet ids, one a line."
    )
    name: str | None = Field(None, description="torchvision only: class in torchvision.datasets, e.g. SVHN.")
    download: bool = Field(False, description="cifar10, cifar100, fashion_mnist, torchvision: it gets missing files.")
    imbalance_factor: float | None = Field(
        None, ge=1, description="Cut the training images to this ratio of largest and smallest class; null: use all."
    )
    largest_class: int | None = Field(
        None, ge=1, description="With imbalance_factor: images of the largest class; null: all that it has."
    )
    painted: Painted | None = Field(
        None, description="table, fashion_mnist: paint the grey images; `color` is then a group column. Null: no."
    )
    cut_seed: int = Field(0, ge=0, lt=2**32, description="With imbalance_factor: which images are kept.")

    @property
    def held_out(self) -> list[str]:
        """Names of the splits that nothing is trained on, the test split first."""
        return [self.test_split] + ([self.validation_split] if self.validation_split else [])

    @property
    def splits(self) -> list[str]:
        """Names of the splits that are used, the training split first."""
        return [self.train_split, *self.held_out]

    @property
    def unsplit(self) -> bool:
        """Whether the data set names no splits: the test split is made of its images."""
        return self.test_split in self.make_splits

    @model_validator(mode="after")
    def _made_splits_are_used(self):
        shares = self.make_splits
        if shares and self.source not in _SPLIT_HERE:
            raise ValueError(f"make_splits is for source: {', '.join(_SPLIT_HERE)}")
        if shares and self.painted:
            raise ValueError("make_splits and painted exclude each other: painting needs to know the training images")
        for name in shares:
            if name not in self.held_out:
                raise ValueError(
                    f"make_splits: {name!r} should be the test or the validation split ({', '.join(self.held_out)}); "
                    f"set validation_split: {name} to have one"
                )
        if not all(0 < share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
            raise ValueError("make_splits: the shares should be above 0, and below 1 together")
        if self.unsplit and len(shares) < len(self.held_out):
            raise ValueError(f"make_splits: if {self.test_split!r} is made, {self.validation_split!r} must be made too")
        return self

    @model_validator(mode="after")
    def _keys_fit_the_source(self):
        if (self.lists is not None) != (self.source == "image_list"):
            raise ValueError("lists is needed with source: image_list, and only with it")
        if self.validation_split and self.source in _UNVALIDATED:
            raise ValueError(f"validation_split is not for source: {', '.join(_UNVALIDATED)}")
        if len(set(self.splits)) < len(self.splits):
            raise ValueError(f"train_split, test_split and validation_split should differ: {', '.join(self.splits)}")
        if self.lists is not None and not set(self.splits) <= set(self.lists):
            raise ValueError(f"lists should have a file for each of {', '.join(self.splits)}")
        if (self.name is not None) != (self.source == "torchvision"):
            raise ValueError("name is needed with source: torchvision, and only with it")
        listed = {"class_names": self.class_names, "classes": self.classes}
        for key, value in {**listed, "download": self.download}.items():
            there = self.source == "image_list" if key in listed else self.source in _DOWNLOADED
            if value and not there:
                raise ValueError(f"{key} is for source: {'image_list' if key in listed else ', '.join(_DOWNLOADED)}")
        if self.painted:
            if self.source not in ("table", "fashion_mnist") or self.color != "rgb" or self.group_columns != ["color"]:
                raise ValueError("painted needs source: table or fashion_mnist, color: rgb and group_columns: [color]")
        elif self.group_columns and self.source not in _GROUPED:
            raise ValueError(f"group_columns is for source: {', '.join(_GROUPED)}")
        if set(self.group_columns) & {"label", "modifier", "group"}:
            raise ValueError("group_columns may not be called label, modifier or group, as placeholders of prompts are")
        if self.group_columns and self.imbalance_factor is not None:
            raise ValueError("imbalance_factor cuts classes and not groups; leave one of the two out")
        if (self.largest_class or self.cut_seed) and self.imbalance_factor is None:
            raise ValueError("largest_class and cut_seed have no effect without imbalance_factor; leave them out")
        return self


class Imbalance(Model):
    """Where the shot groups of long-tailed recognition are cut (real training images per class)."""

    many_above: int = Field(100, ge=1, description="A class with more images than this is `many`.")
    few_below: int = Field(20, ge=1, description="A class with fewer images than this is `few`; between: `medium`.")

    @model_validator(mode="after")
    def _ordered(self):
        if self.few_below > self.many_above:
            raise ValueError("few_below must not be larger than many_above")
        return self


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
    generator_training: GeneratorTraining | None = Field(None, description="Only for `snakemake train_generator`.")
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
    try:
        return Config.model_validate(config)
    except ValidationError as error:
        faults = error.errors()
        # A recipe inherits `training`, and with it every fault: said once.
        shared = {fault["loc"][1:] for fault in faults if fault["loc"][:1] == ("training",)}
        own = [fault for fault in faults if fault["loc"][2:3] != ("stage1",) or fault["loc"][3:] not in shared]
        raise UserError(f"{where}: " + "; ".join(_describe(fault) for fault in own)) from None


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
