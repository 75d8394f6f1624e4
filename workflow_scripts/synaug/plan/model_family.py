"""What a checkpoint is, as far as settings act differently: its kind of guidance, and the sizes that SDXL is told.

Read from the config files of the checkpoint. Of a hub model they are on this machine once the model was downloaded.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from synaug.config import Generation
from synaug.plan.schedulers import check_flow_matching
from synaug.runtime.errors import UserError

# Denoisers whose diffusers pipelines do classifier-free guidance if, and only if, the scale is above 1.
_CLASSIFIER_FREE = (
    "UNet2DConditionModel",
    "SD3Transformer2DModel",
    "PixArtTransformer2DModel",
    "SanaTransformer2DModel",
    "DiTTransformer2DModel",
)


@dataclass(frozen=True)
class Family:
    """What decides how settings act.

    guidance: classifier-free: a second evaluation per step, with the negative prompt, if the scale is above 1;
    embedded: the scale is an input of the denoiser (LCM, FLUX.1-dev, Sana-Sprint); none: the model has no guidance
    (FLUX.1-schnell). trained_size: of SDXL, the size that it was trained at, in pixels.
    """

    guidance: Literal["classifier-free", "embedded", "none"]
    trained_size: int | None = None


def family_of(denoiser: str, config: Mapping[str, Any], autoencoder: Mapping[str, Any]) -> Family | None:
    """The family of a checkpoint; None: not one of those that the project knows.

    denoiser: name of the class of its UNet or transformer. config, autoencoder: the configs of denoiser and VAE.
    """
    if config.get("time_cond_proj_dim") is not None or config.get("guidance_embeds"):
        guidance = "embedded"
    elif denoiser == "FluxTransformer2DModel":
        guidance = "none"
    elif denoiser in _CLASSIFIER_FREE:
        guidance = "classifier-free"
    else:
        return None
    trained_size = None
    if config.get("addition_embed_type") == "text_time":  # SDXL: sizes are embedded like the time
        # `sample_size` counts latent pixels; each block of the VAE but the last halves the resolution.
        trained_size = config["sample_size"] * 2 ** (len(autoencoder["block_out_channels"]) - 1)
    return Family(guidance, trained_size)


def read_family(model: str, revision: str | None) -> Family | None:
    """The family of the checkpoint `model`; None: not known, or its config files are not on this machine.

    revision: of a hub model; not used for a local folder.
    """
    try:
        index = _read_config(model, revision, "model_index.json")
        part = "unet" if "unet" in index else "transformer"
        config, autoencoder = (_read_config(model, revision, f"{name}/config.json") for name in (part, "vae"))
        return family_of(index[part][1], config, autoencoder)
    except (OSError, ValueError, LookupError, TypeError):  # a faulty checkpoint is reported when it is loaded
        return None


def _read_config(model: str, revision: str | None, name: str) -> dict:
    """A JSON file of a checkpoint. Raises OSError if it is not on this machine."""
    return json.loads(checkpoint_file(model, revision, name).read_text())


def checkpoint_file(model: str, revision: str | None, name: str) -> Path:
    """The path of the file `name` of a checkpoint. Raises FileNotFoundError if a hub model lacks it on this machine."""
    if Path(model).is_dir():
        return Path(model) / name
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:  # envs/data.yaml, in which plans are made, has no library of models
        raise FileNotFoundError(name) from None
    file = try_to_load_from_cache(model, name, revision=revision)
    if not isinstance(file, str):
        raise FileNotFoundError(name)
    return Path(file)


def check_generation(generation: Generation, negative_prompt: str) -> None:
    """`check_settings` for a config, if the family of its model is known; `check_flow_matching` also for others.

    Raises UserError also if the model needs a value of guidance and has none.
    """
    model = generation.model
    _check_scheduler_suits(generation)
    family = read_family(model, generation.revision)
    if family is None:
        return
    if family.guidance == "embedded" and generation.guidance is None:
        raise UserError(
            f"generation.guidance: {model} takes guidance as an input, and there is no default for it",
            advice="add the value of its model card, for example 3.5 for FLUX.1-dev and 8.5 for LCM",
        )
    if generation.original_size and family.trained_size is None:
        raise UserError(f"generation.original_size: {model} is not SDXL and has no such input; leave it out")
    check_settings(family, negative_prompt, generation.guidance_values, generation.size, generation.original_size or 0)


def _check_scheduler_suits(generation: Generation) -> None:
    """`check_flow_matching` for a config, if the config files of its model are on this machine."""
    model = generation.model
    try:
        own_config = _read_config(model, generation.revision, "scheduler/scheduler_config.json")
        own_name = own_config["_class_name"]
    except (OSError, ValueError, LookupError, TypeError):  # a faulty checkpoint is reported when it is loaded
        return
    check_flow_matching(model, own_name, own_config, generation.scheduler_text)


def check_settings(
    family: Family, negative_prompt: str, guidance: Iterable[float], size: int, original_size: int
) -> None:
    """Raise UserError if a setting has no effect, or another one than it is used for.

    size, original_size: pixels, columns of the manifest `plan`.
    """
    if negative_prompt:
        where = f"prompts.negative: {negative_prompt!r} has no effect"
        if family.guidance != "classifier-free":
            raise UserError(f"{where}: this model has no classifier-free guidance; leave it out")
        if min(guidance) <= 1:
            raise UserError(
                f"{where} at generation.guidance {min(guidance):g}; leave it out, or raise guidance above 1"
            )
    if family.trained_size is not None and size < family.trained_size and not original_size:
        raise UserError(
            f"generation.size: {size} is less than the {family.trained_size} pixels that this SDXL was trained at, and "
            f"tells it to imitate enlarged images of {size} pixels",
            advice=f"add generation.original_size: {family.trained_size} (or {size}, to keep existing images)",
        )
