"""Config blocks of step 2: how many images, of what, made by which model."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from synaug.config.base import Model


class Balance(Model):
    """How many synthetic images every class gets."""

    strategy: Literal["largest", "fixed", "largest_of_class", "largest_of_group"] = Field(
        "largest",
        description="largest: fill every class, or class in a group, to the largest (the paper); fixed: to `target`; "
        "largest_of_class, largest_of_group: groups of a class, or classes of a group, to the largest of them.",
    )
    target: int | None = Field(
        None, ge=1, description="fixed only: images per class, or class in a group, real and synthetic together."
    )
    amount: float = Field(
        1.0, gt=0, description="Synthetic images per image that a class lacks: 1 fills it, 0.5 goes half of the way."
    )
    max_synthetic_per_real: float | None = Field(
        None, gt=0, description="At most this many synthetic images per real one of the class; null: no cap."
    )
    oversample: float = Field(
        1.0, ge=1, le=10, description="Images made per image wanted; the best of each class are kept."
    )
    shortfall: Literal["error", "record"] = Field(
        "record", description="A class that screening leaves with fewer images than wanted: end the run, or record it."
    )

    @model_validator(mode="after")
    def _target_when_fixed(self):
        if (self.strategy == "fixed") != (self.target is not None):
            raise ValueError("target is needed with strategy: fixed, and only with it")
        return self


class Prompts(Model):
    """What the model is asked for."""

    templates: list[str] = Field(
        ["a photo of a {label}"], min_length=1, description="Image i of a class uses template i modulo their number."
    )
    names: str | dict[str, str] = Field(
        {},
        description="Class name, or value of a group -> the words for it in prompts; or a table (Parquet or CSV) with "
        "the columns label and name.",
    )
    modifiers: str | list[str] | dict[str, list[str]] | None = Field(
        None,
        description="What {modifier} stands for: a list for all classes, a list per class, `general` (20 that suit "
        "most things), or a table (Parquet or CSV) with the columns label and modifier.",
    )
    file: str | None = Field(
        None, description="Prompts written elsewhere: a table (Parquet or CSV) with the columns label and prompt."
    )
    negative: str = Field("", description="What the images must not show; empty: nothing.")

    @field_validator("templates")
    @classmethod
    def _templates_hold_label(cls, templates: list[str]) -> list[str]:
        for template in templates:
            if "{label}" not in template:
                raise ValueError(f"{template!r} must contain {{label}}")
        return templates

    @field_validator("names", "modifiers", mode="before")
    @classmethod
    def _class_names_are_text(cls, block: Any) -> Any:
        for key in block if isinstance(block, dict) else ():
            if not isinstance(key, str):
                raise ValueError(f"a class name is text: write '{key}', with the quotes")
        return block

    @field_validator("modifiers", mode="before")
    @classmethod
    def _modifiers_are_texts(cls, modifiers: Any) -> Any:
        match modifiers:
            case None:
                return None
            case str():
                lists = [[modifiers]]
            case dict():
                lists = list(modifiers.values())
            case _:
                lists = [modifiers]
        if any(not isinstance(one, list) or any(not isinstance(text, str) for text in one) for one in lists):
            raise ValueError("should be general, a list of texts, a block of class: list of texts, or a table's path")
        if not lists or any(not one for one in lists):
            raise ValueError("a list of modifiers must not be empty")
        if any(not text.strip() for one in lists for text in one):
            raise ValueError("a modifier must not be empty; for images without one, add a template without {modifier}")
        return modifiers

    @model_validator(mode="after")
    def _modifiers_where_they_are_used(self):
        used = any("{modifier}" in template for template in self.templates)
        if used != (self.modifiers is not None):
            raise ValueError("modifiers is needed with {modifier} in a template, and only with it")
        return self


class Adapter(Model):
    """A small addition to the model's weights."""

    kind: Literal["lora", "textual_inversion"] = Field(
        description="lora: low-rank changes of the denoiser (needs peft); textual_inversion: a new word."
    )
    model: str = Field(description="A safetensors file or folder, or the id of a model on the hub.")
    revision: str | None = Field(None, description="Hub only: commit, tag or branch.")
    file: str | None = Field(None, description="Name of the weights in the folder or hub model; null: the usual one.")
    scale: float = Field(1.0, ge=0, description="lora only: strength; 0 is the model itself.")
    token: str | None = Field(None, description="textual_inversion only: the new word, as prompts write it.")

    @model_validator(mode="after")
    def _token_when_textual_inversion(self):
        if (self.kind == "textual_inversion") != (self.token is not None):
            raise ValueError("token is needed with kind: textual_inversion, and only with it")
        if self.kind == "textual_inversion" and self.scale != 1:
            raise ValueError("scale is for kind: lora")
        return self


class Generation(Model):
    """The diffusion model and how it is sampled.

    Every key decides pixels, but for `compile`, `batch_size`, `images_per_shard`, `licence` and `note`.
    """

    pipeline: Literal["text-to-image", "image-to-image", "class-conditional"] = Field(
        "text-to-image",
        description="text-to-image: from noise; image-to-image: from a real image of the same class, as far as "
        "`strength`; class-conditional: a model that knows class names or numbers instead of text (DiT).",
    )
    model: str = Field(description="A diffusers checkpoint: a local folder, or the id of a model on the hub.")
    revision: str | None = Field(None, description="Hub only: commit, tag or branch of the model.")
    adapters: list[Adapter] = Field([], description="LoRA and textual inversion, loaded in this order.")
    scheduler: str | None = Field(None, description="Name of a diffusers scheduler class; null: the checkpoint's own.")
    steps: int | list[int] = Field(20, description="Denoising steps per image, 1 to 1000; a list: taken in turns.")
    guidance: float | list[float] = Field(
        2.0, description="Classifier-free guidance scale, 0 to 100; 1 or less: none. A list: taken in turns."
    )
    strength: float | None = Field(
        None, gt=0, le=1, description="image-to-image only: share of the noise; 1 leaves nothing of the real image."
    )
    size: int = Field(512, ge=8, multiple_of=8, description="Side of the square images that the model makes, pixels.")
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="Floating-point type of the model.")
    format: Literal["png", "webp", "jpeg"] = Field(
        "png", description="How images are stored. png, webp: lossless; webp is smaller and faster to write."
    )
    compile: bool = Field(False, description="Compile the denoiser's blocks: minutes at the start, then faster. GPUs.")
    batch_size: int | None = Field(
        None, ge=1, description="Images sampled together (the last batch is padded); null: found by a short trial."
    )
    images_per_shard: int = Field(2000, ge=1, description="Work of one job: one model load, minutes of device time.")
    licence: str = Field("", description="Licence of the model's images, carried into every shard.")
    note: str = Field("", description="What a reader of the results must know of the model; shown in the report.")

    @field_validator("steps", "guidance")
    @classmethod
    def _within_range(cls, value: Any, info) -> Any:
        low, high = (1, 1000) if info.field_name == "steps" else (0, 100)
        values = value if isinstance(value, list) else [value]
        if not values or any(not low <= one <= high for one in values):
            raise ValueError(f"should be {low} to {high}, or a list of such numbers")
        return value

    @model_validator(mode="after")
    def _strength_when_image_to_image(self):
        if (self.pipeline == "image-to-image") != (self.strength is not None):
            raise ValueError("strength is needed with pipeline: image-to-image, and only with it")
        return self
