"""Loading a diffusers checkpoint: a local folder or a hub id, always by the same code."""

import inspect
import os

import torch

from synaug.errors import UserError
from synaug.models import model_version


def load_pipeline(model: str, version: str, scheduler: str, dtype: str, device: str):
    """A text-to-image pipeline on `device`, ready to be called.

    model, version, scheduler, dtype: columns of the plan (version: hash of a local folder, or revision on the hub).
    Safetensors only, no code from the checkpoint. Raises UserError if the checkpoint cannot be loaded, is not the one
    of the plan, or the scheduler does not exist.
    """
    from diffusers import AutoPipelineForText2Image
    from diffusers.utils import logging

    logging.set_verbosity_error()
    local = os.path.isdir(model)
    if local and model_version(model, None) != version:
        raise UserError(f"{model}: is not the model that was planned (its files have changed); run the workflow again")
    try:
        pipeline = AutoPipelineForText2Image.from_pretrained(
            model,
            revision=None if local else version,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=local,
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"generation.model: {model} cannot be loaded: {error}") from error
    if scheduler:
        pipeline.scheduler = _scheduler(scheduler).from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    for part in ("unet", "transformer", "vae"):
        if getattr(pipeline, part, None) is not None:
            getattr(pipeline, part).to(memory_format=torch.channels_last)
    return pipeline


def _scheduler(name: str):
    import diffusers

    found = getattr(diffusers, name, None)
    if not (inspect.isclass(found) and issubclass(found, diffusers.SchedulerMixin)):
        raise UserError(f"generation.scheduler: diffusers has no scheduler {name!r}; see diffusers.schedulers")
    return found
