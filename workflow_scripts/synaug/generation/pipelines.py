"""Loading a diffusers checkpoint and its adapters: a local folder or a hub id, always by the same code."""

import inspect
import json
import os
from collections import OrderedDict
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch

from synaug.config import Adapter
from synaug.plan.checkpoints import CONTENTS, adapter_files, adapter_version, model_version
from synaug.runtime.errors import UserError


def load_pipeline(row: Mapping, device: str, compile: bool = False):
    """A diffusers pipeline on `device`, ready for `sampling.sample`.

    row: one row of the manifest `plan` or `shard`; its columns pipeline, model, model_version, adapters, scheduler and
    dtype say what is loaded. compile: compile the repeated blocks of the denoiser (`torch.compile`).
    Safetensors only, no code from the checkpoint, and no built-in safety checker: it blackens images, which
    `screening.safety` does openly.
    Raises UserError if something cannot be loaded, is not what was planned, or the scheduler does not exist.
    """
    import diffusers
    from diffusers.utils import logging

    logging.set_verbosity_error()
    model, version = row["model"], row["model_version"]
    local = version.startswith(CONTENTS)
    if local and not os.path.isdir(model):
        raise UserError(f"generation.model: {model}: no such folder (the model that was planned lay there)")
    if local and model_version(model, None) != version:
        raise UserError(f"{model}: is not the model that was planned (its files have changed); run the workflow again")
    kinds = {
        "text-to-image": diffusers.AutoPipelineForText2Image,
        "image-to-image": diffusers.AutoPipelineForImage2Image,
        "class-conditional": diffusers.DiTPipeline,
    }
    settings = {
        "revision": None if local else version,
        "dtype": getattr(torch, row["dtype"]),
        "use_safetensors": True,
        "local_files_only": local,
    }
    try:
        stored = diffusers.DiffusionPipeline.load_config(model, revision=settings["revision"], local_files_only=local)
        if "safety_checker" in stored:
            settings |= {"safety_checker": None, "requires_safety_checker": False}
        # What a checkpoint was saved without (the third text encoder of SD3, say) it is loaded without.
        settings |= {name: None for name, value in stored.items() if isinstance(value, list) and value == [None, None]}
        pipeline = kinds[row["pipeline"]].from_pretrained(model, **settings)
    except Exception as error:
        # Whatever is wrong with a folder or the network, loaders say it with many kinds of exceptions.
        where = "" if local else f" (revision {version}; is there a network, and are its weights safetensors?)"
        raise UserError(f"generation.model: {model}{where} cannot be loaded: {_first_line(error)}") from error
    if row["scheduler"]:
        pipeline.scheduler = _scheduler(row["scheduler"]).from_config(pipeline.scheduler.config)
    _load_adapters(pipeline, json.loads(row["adapters"] or "[]"))
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    for part in (getattr(pipeline, "unet", None), pipeline.vae):
        if part is not None:
            part.to(memory_format=torch.channels_last)
    if compile:
        if getattr(denoiser, "_repeated_blocks", None):
            denoiser.compile_repeated_blocks()
        else:
            denoiser.compile()
    if hasattr(pipeline, "encode_prompt"):
        pipeline.encode_prompt = _EncodeOnce(pipeline.encode_prompt)
    return pipeline


class _EncodeOnce:
    """Stands in for `encode_prompt` of any pipeline: each prompt is encoded once, and alone.

    Alone, so that the embedding of a prompt does not depend on which others are in the batch. Only the last `keep`
    prompts are kept (embeddings of large text encoders take megabytes): rows come sorted by prompt.
    """

    def __init__(self, encode, keep: int = 256) -> None:
        self.encode, self.keep = encode, keep
        self.signature = inspect.signature(encode)
        self.known: OrderedDict = OrderedDict()

    def __call__(self, *args, **kwargs):
        given = self.signature.bind(*args, **kwargs).arguments
        prompts = given["prompt"]
        if not isinstance(prompts, list):
            return self.encode(**given)
        rows = [self._one(given, i) for i in range(len(prompts))]
        # Tensors with one row belong to the prompt; what has none (position ids of Flux) is the same for all.
        return tuple(
            torch.cat(column) if torch.is_tensor(column[0]) and len(column[0]) == 1 else column[0]
            for column in zip(*rows, strict=True)
        )

    def _one(self, given: dict, i: int) -> tuple:
        count = len(given["prompt"])
        # prompt, prompt_2, negative_prompt ...: one text for each image. Other lists (Sana's instructions) are shared.
        own = {
            name: [value[i]] if "prompt" in name and isinstance(value, list) and len(value) == count else value
            for name, value in given.items()
        }
        key = repr(sorted(own.items(), key=lambda item: item[0]))
        if key not in self.known:
            self.known[key] = self.encode(**own)
        self.known.move_to_end(key)
        while len(self.known) > self.keep:
            self.known.popitem(last=False)
        return self.known[key]


def _scheduler(name: str):
    import diffusers

    found = getattr(diffusers, name, None)
    if not (inspect.isclass(found) and issubclass(found, diffusers.SchedulerMixin)):
        raise UserError(f"generation.scheduler: diffusers has no scheduler {name!r}; see diffusers.schedulers")
    return found


def _load_adapters(pipeline, planned: list[dict]) -> None:
    """Load the adapters, as they stand in the plan's column `adapters`, and check that they are the planned ones."""
    scales = {}
    for number, one in enumerate(planned):
        version = one["version"]
        local = version.startswith(CONTENTS)
        adapter = Adapter.model_validate({name: value for name, value in one.items() if name != "version"})
        if local and adapter_version(adapter) != version:
            raise UserError(f"{adapter.model}: is not the adapter that was planned; run the workflow again")
        if adapter.kind == "lora" and find_spec("peft") is None:
            raise UserError("generation.adapters: kind lora needs the package peft: pip install synaug[lora]")
        model, file = adapter.model, adapter.file
        if local:
            path = Path(adapter_files(adapter)[0])
            model, file = str(path.parent), path.name
        settings = {"weight_name": file, "use_safetensors": True, "local_files_only": local}
        settings["revision"] = None if local else version
        try:
            if adapter.kind == "lora":
                scales[f"adapter{number}"] = adapter.scale
                pipeline.load_lora_weights(model, adapter_name=f"adapter{number}", **settings)
            else:
                pipeline.load_textual_inversion(model, token=adapter.token, **settings)
        except Exception as error:
            raise UserError(f"generation.adapters: {adapter.model} cannot be loaded: {_first_line(error)}") from error
    if scales:
        # Put into the weights, they cost nothing while sampling.
        pipeline.set_adapters(list(scales), list(scales.values()))
        pipeline.fuse_lora(adapter_names=list(scales))
        pipeline.unload_lora_weights()


def _first_line(error: Exception) -> str:
    text = str(error).strip().split("\n", 1)[0]
    return f"{text} ({type(error).__name__})" if text else type(error).__name__
