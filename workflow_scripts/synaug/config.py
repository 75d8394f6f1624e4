"""The configuration: pydantic models, one per top-level key of `config.yaml`, and the JSON schema made from them.

Nothing here is about threads, GPUs or folders: those belong to the command line and to profiles.
"""

import textwrap
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from synaug.errors import UserError

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Model(BaseModel):
    """A config block: unknown keys are errors, and values are never coerced from another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _read_text_below_a_key(cls, block: Any) -> Any:
        """`--config training='{steps: 150}'` gives the text '150': read it as YAML where no text is wanted."""
        if not isinstance(block, dict):
            return block
        plain = {name for name, field in cls.model_fields.items() if "str" not in str(field.annotation)}
        return {key: _from_yaml(value) if key in plain else value for key, value in block.items()}


def _from_yaml(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_yaml(one) for one in value]
    return yaml.safe_load(value) if isinstance(value, str) else value


class Dataset(Model):
    """Where the real images are and in which form they are used."""

    source: Literal["table", "folder"] = Field(
        description="table: Parquet or CSV with one row per image; folder: <path>/<split>/<class>/<image>."
    )
    path: str = Field(description="The table (or a folder of *.parquet tables), or the folder of images.")
    image_size: int = Field(ge=8, le=1024, description="Side of the square images that networks see, pixels.")
    color: Literal["grey", "rgb"] = Field("rgb", description="Channels of the images: 1 or 3.")
    train_split: str = Field("train", description="Name of the split that is measured, filled and trained on.")
    test_split: str = Field("test", description="Name of the split that is only evaluated on.")
    label_column: str = Field("label", description="table only: the column that names the class.")
    split_column: str = Field("split", description="table only: the column that names the split.")
    image_column: str = Field(
        "image", description="table only: an image struct {bytes, path}, or a path relative to the table's folder."
    )
    max_megapixels: float = Field(100.0, gt=0, description="A larger image is not decoded but listed with that reason.")


class Imbalance(Model):
    """Where the shot groups of long-tailed recognition are cut (real training images per class)."""

    many_above: int = Field(100, ge=1, description="A class with more images than this is `many`.")
    few_below: int = Field(20, ge=1, description="A class with fewer images than this is `few`; between: `medium`.")

    @model_validator(mode="after")
    def _ordered(self):
        if self.few_below > self.many_above:
            raise ValueError("few_below must not be larger than many_above")
        return self


class Balance(Model):
    """How many synthetic images every class gets."""

    strategy: Literal["largest", "fixed"] = Field(
        "largest", description="largest: fill every class to the largest one (the paper); fixed: fill to `target`."
    )
    target: int | None = Field(None, ge=1, description="fixed only: images per class, real and synthetic together.")
    max_synthetic_per_real: float | None = Field(
        None, gt=0, description="At most this many synthetic images per real one of the class; null: no cap."
    )

    @model_validator(mode="after")
    def _target_when_fixed(self):
        if (self.strategy == "fixed") != (self.target is not None):
            raise ValueError("target is needed with strategy: fixed, and only with it")
        return self


class Prompts(Model):
    """What the text-to-image model is asked for."""

    templates: list[str] = Field(
        ["a photo of a {label}"], min_length=1, description="Image i of a class uses template i modulo their number."
    )
    names: dict[str, str] = Field({}, description="Class name -> the words that stand for it in prompts.")
    negative: str = Field("", description="What the images must not show; empty: nothing.")

    @field_validator("templates")
    @classmethod
    def _templates_hold_label(cls, templates: list[str]) -> list[str]:
        for template in templates:
            if "{label}" not in template or template.replace("{label}", "").count("{"):
                raise ValueError(f"{template!r} must contain {{label}} and no other placeholder")
        return templates


class Generation(Model):
    """The diffusion model and how it is sampled. Every key but `batch_size` and `images_per_shard` decides pixels."""

    model: str = Field(description="A diffusers checkpoint: a local folder, or the id of a model on the hub.")
    revision: str | None = Field(None, description="Hub only: commit, tag or branch of the model.")
    scheduler: str | None = Field(None, description="Name of a diffusers scheduler class; null: the checkpoint's own.")
    steps: int = Field(20, ge=1, le=1000, description="Denoising steps per image.")
    guidance: float = Field(2.0, ge=0, description="Classifier-free guidance scale; 1 or less: none.")
    size: int = Field(512, ge=8, multiple_of=8, description="Side of the square images that the model makes, pixels.")
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="Floating-point type of the model.")
    batch_size: int = Field(16, ge=1, description="Images sampled together (the last batch is padded).")
    images_per_shard: int = Field(1000, ge=1, description="Work of one job: one model load, minutes of device time.")
    licence: str = Field("", description="Licence of the model's images, carried into every shard.")
    note: str = Field("", description="What a reader of the results must know of the model; shown in the report.")


class Screening(Model):
    """What a synthetic image must pass before it is trained on."""

    min_contrast: float = Field(
        2.0, ge=0, description="Smallest standard deviation of its pixels (0 to 255): less is a blank image."
    )


class Mixup(Model):
    """Mixup (Zhang et al. 2018) of a batch's images and labels."""

    alpha: float = Field(gt=0, description="Both parameters of the Beta distribution of the mixing weight.")
    pairing: Literal["random", "real_synthetic"] = Field(
        "real_synthetic", description="Partners: any image of the batch, or always one of the other domain."
    )


class Stage1(Model):
    """Training of the whole network."""

    backbone: Literal["resnet8"] = Field(
        "resnet8", description="Network; resnet8: three residual blocks, for small images."
    )
    width: int = Field(
        32, ge=4, description="Channels of the first residual block; the others have 2 and 4 times that."
    )
    steps: int = Field(1000, ge=1, description="Optimiser steps: the budget, whatever the number of images.")
    batch_size: int = Field(128, ge=2, description="Images per step.")
    learning_rate: float = Field(0.1, gt=0, description="Peak rate of SGD with momentum; warm-up, then cosine to 0.")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty on all weights.")
    shift: int = Field(2, ge=0, description="Augmentation: random translation by up to so many pixels.")
    flip: bool = Field(True, description="Augmentation: random horizontal flip.")
    mixup: Mixup | None = Field(None, description="Mixup; null: none.")


class Stage2(Model):
    """Re-training of the last layer on a few real images, everything before it frozen."""

    images_per_class: int | None = Field(
        None, ge=1, description="Real images per class, the same for all; null: as many as the smallest class has."
    )
    start: Literal["warm", "fresh"] = Field("warm", description="Last layer: as stage 1 left it, or initialised anew.")
    steps: int = Field(100, ge=1, description="Optimiser steps.")
    batch_size: int = Field(64, ge=1, description="Images per step.")
    learning_rate: float = Field(0.01, gt=0, description="Peak rate of SGD with momentum; cosine to 0.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty on the last layer.")


class Recipe(Model):
    """A way to train: which images, stage 1, and perhaps stage 2."""

    data: Literal["real", "balanced"] = Field(description="Rows of the balanced manifest: the real ones, or all.")
    stage1: Stage1 = Field(description="Overrides of the top-level `training`.")
    stage2: Stage2 | None = Field(None, description="Fine-tuning of the last layer; null: none.")


class GeneratorTraining(Model):
    """`snakemake train_generator`: a small text-to-image model of one's own (not part of the default run)."""

    images: str = Field(
        description="Parquet with the columns image {bytes, path} and label_name, or a manifest `real`."
    )
    output: str = Field(description="Folder of the checkpoint that is written; replaced, with all that is in it.")
    size: int = Field(32, ge=8, multiple_of=8, description="Side of the square images it will make, pixels.")
    color: Literal["grey", "rgb"] = Field("rgb", description="Channels of the images it will make.")
    autoencoder_steps: int = Field(4000, ge=1, description="Optimiser steps of the autoencoder.")
    denoiser_steps: int = Field(20000, ge=1, description="Optimiser steps of the text encoder and the denoiser.")
    batch_size: int = Field(128, ge=2, description="Images per step.")


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
    seeds: list[Seed] = Field([0, 1, 2], min_length=1, description="Every recipe is trained once with each of these.")
    generator_training: GeneratorTraining | None = Field(None, description="Only for `snakemake train_generator`.")

    @model_validator(mode="before")
    @classmethod
    def _recipes_start_from_training(cls, config: Any) -> Any:
        """Put the top-level `training` under the `stage1` of every recipe, where the recipe does not say otherwise."""
        shared, recipes = config.get("training") or {}, config.get("recipes")
        if not isinstance(shared, dict) or not isinstance(recipes, dict):
            return config
        merged = {}
        for name, recipe in recipes.items():
            own = recipe.get("stage1") if isinstance(recipe, dict) else None
            if isinstance(recipe, dict) and (own is None or isinstance(own, dict)):
                recipe = {**recipe, "stage1": {**shared, **(own or {})}}
            merged[name] = recipe
        return {**config, "recipes": merged}

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("each seed may stand here once")
        return seeds


def load_config(config: dict[str, Any]) -> Config:
    """Validate the parsed YAML `config`.

    Raises UserError: one line with, for each fault, the key, the value, and what is allowed.
    """
    try:
        return Config.model_validate(config)
    except ValidationError as error:
        faults = error.errors()
        # A recipe inherits `training`, and with it every fault: said once.
        shared = {fault["loc"][1:] for fault in faults if fault["loc"][0] == "training"}
        own = [fault for fault in faults if fault["loc"][2:3] != ("stage1",) or fault["loc"][3:] not in shared]
        raise UserError("config: " + "; ".join(_describe(fault) for fault in own)) from None


def _describe(fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"]) or "(the whole)"
    match fault["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key; allowed here: {', '.join(_fields_at(fault['loc'][:-1]))}"
        case "missing":
            return f"{key}: is missing and has no default"
        case "model_type" | "dict_type":
            return f"{key}: {fault['input']!r}: should be a block of keys"
        case _:
            value = textwrap.shorten(repr(fault["input"]), 80)
            return f"{key}: {value}: {fault['msg'].removeprefix('Value error, ')}"


def _fields_at(location: tuple) -> list[str]:
    """The keys that the block at `location` may have."""
    kind: Any = Config
    for part in location:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            kind = kind.model_fields[part].annotation
            if type(None) in get_args(kind):
                kind = get_args(kind)[0]
    return sorted(kind.model_fields)
