"""Config block `generation`: which model makes the images, and how."""

import json
import re
from itertools import product
from math import isfinite
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from synaug.config.base import Block, NormalPath, parse_value

# Guidance of a config that states none, for models with classifier-free guidance.
DEFAULT_GUIDANCE = 2.0


class Adapter(Block):
    """Additional weights for the model."""

    kind: Literal["lora", "textual_inversion"] = Field(
        description="lora: low-rank changes of the denoiser (needs the package peft); textual_inversion: a new word."
    )
    model: NormalPath = Field(
        description="A *.safetensors file, a folder with one, adaptation.output, or the id of a model on the Hugging "
        "Face hub."
    )
    revision: str | None = Field(
        None, description="Commit, tag or branch of a model on the hub, required there; not used for local files."
    )
    file: str | None = Field(
        None, description="Name of the weights in the folder or hub model; null: there is only one file."
    )
    scale: float = Field(1.0, ge=0, description="lora only: strength; 0 leaves the model unchanged.")
    token: str | None = Field(None, description="textual_inversion only: the new word, as it is written in prompts.")

    @model_validator(mode="after")
    def _keys_fit_the_kind(self):
        self._require_exactly_with("token", "kind: textual_inversion", self.kind == "textual_inversion")
        if self.kind == "textual_inversion":
            self._refuse_without_effect(["scale"], "with kind: textual_inversion")
        if self.model.endswith(".safetensors"):
            self._refuse_without_effect(["file"], "with a model that is a file")
        return self


class Scheduler(Block):
    """A scheduler with options. Every other key is an option of the scheduler, as its diffusers page names it.

    An option that is not given keeps the value of the checkpoint.
    """

    model_config = ConfigDict(extra="allow")

    name: str = Field(description="Class name of a diffusers scheduler.")

    @model_validator(mode="before")
    @classmethod
    def _parse_options_from_the_command_line(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {key: value if key == "name" else parse_value(value) for key, value in values.items()}

    @model_validator(mode="after")
    def _options_are_plain_values(self):
        for option, value in (self.model_extra or {}).items():
            for item in value if isinstance(value, list) else [value]:
                is_number = isinstance(item, (int, float)) and isfinite(item)
                if not (item is None or is_number or isinstance(item, str)):
                    raise ValueError(
                        f"{option}: {item!r} should be text, true, false, a finite number or a list of these"
                    )
        return self


class Generation(Block):
    """The diffusion model and its settings.

    `compile`, `attention`, `batch_size`, `images_per_shard`, `keep_batches_in`, `licence` and `note` do not change the
    images, `compile` and `attention` apart from the last bits; all other keys do.
    """

    pipeline: Literal["text-to-image", "image-to-image", "class-conditional"] = Field(
        "text-to-image",
        description="text-to-image: from a prompt; image-to-image: from a prompt and a random real image of the same "
        "class; class-conditional: from a class name or number (e.g. DiT).",
    )
    model: NormalPath | None = Field(
        None,
        description="A diffusers checkpoint: a local folder, or the id of a model on the Hugging Face hub; null: none, "
        "so that no synthetic images are made. Then no recipe may have `data: balanced`, and `fills`, `adaptation`, "
        "`screening`, `evaluation.domain_probe` and `evaluation.shortcut_images` are left out.",
    )
    revision: str | None = Field(
        None, description="Commit, tag or branch of a model on the hub, required there; not used for a local folder."
    )
    variant: str | None = Field(
        None,
        description="Variant of the weights: the word before .safetensors in the names of the files, for example fp16; "
        "null: the files without such a word.",
    )
    adapters: list[Adapter] = Field([], description="LoRA and textual-inversion weights, loaded in this order.")
    scheduler: str | Scheduler | None = Field(
        None,
        description="Class name of a diffusers scheduler, or a block of its name and options, for example {name: "
        "EulerDiscreteScheduler, timestep_spacing: trailing}; null: the scheduler of the checkpoint.",
    )
    steps: int | list[int] = Field(
        20, description="Denoising steps per image, 1 to 1000. The images of a class take the values of a list in turn."
    )
    guidance: float | list[float] | None = Field(
        None,
        description="Guidance scale, 0 to 100. Models with classifier-free guidance (most): 1 or less turns it off and "
        "halves the time; null: 2. Models with embedded guidance (LCM, FLUX.1-dev): an input of the model at every "
        "value, which costs no time; required. FLUX.1-schnell: no effect. The images of a class take the values of a "
        "list in turn.",
    )
    strength: float | None = Field(
        None,
        gt=0,
        le=1,
        description="image-to-image only: share of the noise that is added; 1 leaves nothing of the real image.",
    )
    size: int = Field(
        512, ge=8, multiple_of=8, description="Side of the square images that the model makes, in pixels."
    )
    original_size: int | None = Field(
        None,
        ge=8,
        description="SDXL only: side, in pixels, that a training image like the wanted ones had before it was scaled. "
        "Required if `size` is smaller than the size that the model was trained at; null: `size`.",
    )
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="Floating-point type of the model.")
    format: Literal["png", "webp", "jpeg"] = Field(
        "png",
        description="File format of the stored images. png and webp are lossless; webp is smaller and faster to write.",
    )
    compile: bool | Literal["auto"] = Field(
        "auto",
        description="Compile denoiser and decoder: jobs start later and are faster afterwards. auto: on an NVIDIA GPU, "
        "if that pays for the images of the plan; never on a CPU. true: always. The last bits of an image change, its "
        "id does not.",
    )
    attention: str | None = Field(
        None,
        description="Attention backend of diffusers, for example flash or _flash_3, for models whose denoiser lets "
        "diffusers choose it (FLUX); another one changes the last bits of an image; null: the default of diffusers.",
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Images that are sampled together; the last batch is padded; null: found by a short trial.",
    )
    images_per_shard: int = Field(
        2000, ge=1, description="Images per job. Each job loads the model once and should run for minutes."
    )
    keep_batches_in: str | None = Field(
        None,
        description="For machines that share no disk and may be reclaimed at any time: a folder in a bucket "
        "(s3://my-bucket/batches) or on a mounted volume (an absolute path), to which each job copies its finished "
        "batches. An interrupted shard continues from there on any machine. null: nowhere.",
    )
    licence: str = Field("", description="Licence of the synthetic images, stored in every shard.")
    note: str = Field("", description="Text about the model for readers of the results, shown in the report.")

    @field_validator("scheduler")
    @classmethod
    def _without_options_it_is_a_name(cls, scheduler: str | Scheduler | None) -> str | Scheduler | None:
        """The same settings in two forms would give their images different ids."""
        return scheduler.name if isinstance(scheduler, Scheduler) and not scheduler.model_extra else scheduler

    @field_validator("steps")
    @classmethod
    def _steps_are_in_range(cls, steps: int | list[int]) -> int | list[int]:
        return _in_range(steps, 1, 1000)

    @field_validator("guidance")
    @classmethod
    def _guidance_is_in_range(cls, guidance: float | list[float] | None) -> float | list[float] | None:
        return None if guidance is None else _in_range(guidance, 0, 100)

    @model_validator(mode="after")
    def _place_of_batches_is_complete(self):
        """A relative path would be another folder for every job. The config stands in the report, so it has no keys.

        Not a validator of the field, whose errors show the value.
        """
        place = self.keep_batches_in or "/"
        if not re.match(r"/|(s3|gs|abfss?)://[^/]", place):
            raise ValueError("keep_batches_in: must begin with /, s3://, gs:// or abfs://; correct it")
        if re.search(r"://([^/@]*:[^@]*@|.*[?&](?!endpoint_override=|scheme=|region=))", place):
            raise ValueError(
                "keep_batches_in: keys must not stand in an address, nor other options than endpoint_override, scheme "
                "and region; leave them out: jobs read keys from their environment"
            )
        return self

    @model_validator(mode="after")
    def _strength_belongs_to_image_to_image(self):
        self._require_exactly_with("strength", "pipeline: image-to-image", self.pipeline == "image-to-image")
        return self

    @model_validator(mode="after")
    def _original_size_belongs_to_a_text(self):
        if self.pipeline == "class-conditional":
            self._refuse_without_effect(["original_size"], "with pipeline: class-conditional")
        return self

    @property
    def scheduler_text(self) -> str:
        """The column `scheduler` of the manifest `plan`: a name; with options JSON with sorted keys; empty: none."""
        if isinstance(self.scheduler, Scheduler):
            return json.dumps(self.scheduler.model_dump(), sort_keys=True)
        return self.scheduler or ""

    @property
    def guidance_values(self) -> list[float]:
        """The values that the images of a class take in turn."""
        guidance = DEFAULT_GUIDANCE if self.guidance is None else self.guidance
        return [float(value) for value in (guidance if isinstance(guidance, list) else [guidance])]

    @property
    def steps_and_guidance(self) -> list[tuple[int, float]]:
        """Pairs of steps and guidance, which the images of a class take in turn."""
        steps = self.steps if isinstance(self.steps, list) else [self.steps]
        return list(product(steps, self.guidance_values))


def _in_range(value, low: float, high: float):
    values = value if isinstance(value, list) else [value]
    if not values or any(not low <= number <= high for number in values):
        raise ValueError(f"should be {low} to {high}, or a list of such numbers")
    return value
