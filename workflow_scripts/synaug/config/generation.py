"""Config block `generation`: which model makes the images, and how."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from synaug.config.base import Model


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
