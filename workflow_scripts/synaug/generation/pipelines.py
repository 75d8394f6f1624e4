"""Load a diffusers checkpoint and its adapters, from a local folder or the hub."""

import inspect
import json
import logging
import os
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from synaug.config import Adapter
from synaug.config.generation import DEFAULT_GUIDANCE
from synaug.plan.attention import check_attention
from synaug.plan.checkpoints import adapter_files, adapter_version, check_variant, is_local, model_version
from synaug.plan.model_family import check_settings, family_of
from synaug.plan.prompt_length import TOKENIZERS, check_lengths, default_sequence_length, encoder_of
from synaug.plan.schedulers import check_flow_matching, check_scheduler, scheduler_settings
from synaug.runtime.errors import UserError, short_text

# Snakemake does not notice files that are older than the plan, as those of a folder that was renamed.
_PLAN_AGAIN = "delete plan.parquet (and pilot.parquet) of the experiment, and run the workflow again"

log = logging.getLogger(__name__)


def load_pipeline(row: Mapping, device: str, attention: str = ""):
    """A diffusers pipeline on `device`, ready for `sampling.sample`.

    row: one row of the manifest `plan` or `shard`; the columns pipeline, model, model_version, variant, adapters,
    scheduler and dtype decide what is loaded. attention: attention backend of diffusers; empty: its default.
    Only safetensors are loaded, and no code from the checkpoint. Safety checkers of a checkpoint are not loaded: they
    silently turn images black, while `screening.safety` rejects images with a recorded reason.
    Raises UserError if the model or an adapter cannot be loaded or differs from the planned one, if the scheduler
    does not exist, cannot be built from the config of the checkpoint's scheduler, or is for another kind of model, and
    if the attention backend cannot be used.
    """
    import diffusers
    from diffusers.utils import logging

    logging.set_verbosity_error()
    model, version = row["model"], row["model_version"]
    local = is_local(version)
    if local and not os.path.isdir(model):
        raise UserError(
            f"generation.model: {model}: no such folder, and the plan expects the model there", advice="copy it there"
        )
    if local and model_version(model, None) != version:
        raise UserError(f"{model}: its files have changed since the plan was made", advice=_PLAN_AGAIN)
    if local:
        check_variant(model, row["variant"] or None)
    pipeline_classes = {
        "text-to-image": diffusers.AutoPipelineForText2Image,
        "image-to-image": diffusers.AutoPipelineForImage2Image,
        "class-conditional": diffusers.DiTPipeline,
    }
    try:
        settings = _file_settings(model, None if local else version, row["variant"] or None, local)
        settings["dtype"] = getattr(torch, row["dtype"])
        pipeline = pipeline_classes[row["pipeline"]].from_pretrained(model, **settings)
    except Exception as error:
        # The loaders raise many types of exceptions for a faulty folder or a missing network.
        where = "" if local else f" (revision {version})"
        if row["variant"] and "variant" in str(error):
            raise UserError(
                f"generation.variant: {model}{where} cannot be loaded: {_first_line(error)}",
                advice="choose another variant, or null",
            ) from error
        raise UserError(
            f"generation.model: {model}{where} cannot be loaded: {_first_line(error)}",
            advice="copy it again" if local else "check the connection, and that its weights are safetensors",
        ) from error
    if row["scheduler"]:
        pipeline.scheduler = _scheduler(row["scheduler"], pipeline.scheduler, model)
    _load_adapters(pipeline, json.loads(row["adapters"] or "[]"), model)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    if getattr(pipeline, "vae", None) is None:
        raise UserError(
            f"generation.model: {model} has no autoencoder (part `vae`)", advice="choose a latent diffusion model"
        )
    unet = getattr(pipeline, "unet", None)
    for part in (unet, pipeline.vae):
        # Autoencoders of videos (Qwen-Image) have weights of five dimensions, for which there is no such format.
        if part is not None and all(weight.dim() < 5 for weight in part.parameters()):
            part.to(memory_format=torch.channels_last)
    denoiser = unet if unet is not None else pipeline.transformer
    _set_attention(denoiser, attention, model)
    if hasattr(pipeline, "encode_prompt"):
        pipeline.encode_prompt = _EncodeOnce(pipeline.encode_prompt)
    return pipeline


def download_model(model: str, revision: str | None, variant: str | None, local_files_only: bool) -> Path:
    """The folder with the files that `load_pipeline` reads of a model of the hub. Missing files are downloaded.

    local_files_only: a missing file is an OSError. Other exceptions are those of diffusers and huggingface_hub.
    """
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging

    logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers passes an argument that huggingface_hub no longer has
        settings = _file_settings(model, revision, variant, local_files_only)
        return Path(DiffusionPipeline.download(model, **settings))


def _join(values: tuple) -> Any:
    """One value for all prompts, from those of each prompt.

    Tensors and lists (Z-Image) with one row belong to the prompt; others (position ids of Flux) are the same for all.
    """
    first = values[0]
    if torch.is_tensor(first) and len(first) == 1:
        return torch.cat(values)
    if isinstance(first, list) and len(first) == 1:
        return list(chain.from_iterable(values))
    return first


def _file_settings(model: str, revision: str | None, variant: str | None, local_files_only: bool) -> dict:
    """Arguments of `from_pretrained` and `download` of diffusers, by which they choose the files of a checkpoint."""
    from diffusers import DiffusionPipeline

    settings = {"revision": revision, "local_files_only": local_files_only}
    index = DiffusionPipeline.load_config(model, **settings)
    settings |= {"use_safetensors": True, "variant": variant}
    if "safety_checker" in index:
        settings |= {"safety_checker": None, "requires_safety_checker": False}
    # Parts that a checkpoint was saved without, for example the third text encoder of SD3.
    return settings | {name: None for name, value in index.items() if isinstance(value, list) and value == [None, None]}


class _EncodeOnce:
    """Replaces `encode_prompt` of a pipeline: each prompt is encoded once, and in a batch of its own.

    So the embedding of a prompt does not depend on the other prompts of a batch. Only the last `keep` prompts are kept
    (embeddings of large text encoders take megabytes), which is enough because rows are sorted by prompt.
    """

    def __init__(self, encode, keep: int = 256) -> None:
        self.encode, self.keep = encode, keep
        self.signature = inspect.signature(encode)
        self.embeddings: OrderedDict = OrderedDict()

    def __call__(self, *args, **kwargs):
        arguments = self.signature.bind(*args, **kwargs).arguments
        prompts = arguments["prompt"]
        if not isinstance(prompts, list):
            return self.encode(**arguments)
        rows = [self._encode_prompt(arguments, i) for i in range(len(prompts))]
        return tuple(map(_join, zip(*rows, strict=True)))

    def _encode_prompt(self, arguments: dict, i: int) -> tuple:
        count = len(arguments["prompt"])
        # prompt, prompt_2, negative_prompt ...: one text per image. Other lists (Sana's instructions) are shared.
        arguments = {
            name: [value[i]] if "prompt" in name and isinstance(value, list) and len(value) == count else value
            for name, value in arguments.items()
        }
        key = repr(sorted(arguments.items(), key=lambda item: item[0]))
        if key not in self.embeddings:
            self.embeddings[key] = self.encode(**arguments)
        self.embeddings.move_to_end(key)
        while len(self.embeddings) > self.keep:
            self.embeddings.popitem(last=False)
        return self.embeddings[key]


def check_rows(pipeline, rows: pd.DataFrame) -> None:
    """Raise UserError if a setting of `rows` (of the manifest `plan`) has no effect on `pipeline`, or another one.

    The same checks as those of the plan, which knows a hub model only once it was downloaded.
    """
    # Pipelines with a U-Net round down, those with a transformer up.
    too_few = rows[(rows["steps"] * rows["strength"].fillna(1) < 1) & hasattr(pipeline, "unet")]
    if len(too_few):
        steps, strength = too_few[["steps", "strength"]].iloc[0]
        raise UserError(
            f"generation.strength: {strength:g} of {steps:g} steps is no step", advice="raise strength or steps"
        )
    checked = rows[~rows["truncate"]]
    check_prompts(pipeline, [*checked["prompt"].unique(), *checked["negative_prompt"].unique()], rows["model"].iloc[0])
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    family = family_of(type(denoiser).__name__, denoiser.config, pipeline.vae.config)
    if family is None:
        return
    if family.guidance == "embedded" and (rows["guidance"] == DEFAULT_GUIDANCE).any():
        log.warning(
            "generation.guidance: %g is a good start for classifier-free guidance, but an input of this model; see its "
            "model card",
            DEFAULT_GUIDANCE,
        )
    for settings, alike in rows.groupby(["negative_prompt", "size", "original_size"]):
        negative_prompt, size, original_size = settings
        check_settings(family, negative_prompt, alike["guidance"], size, original_size)


def check_prompts(pipeline, texts: Iterable[str], model: str) -> None:
    """Raise UserError if the text encoders of `pipeline`, which was loaded from `model`, would cut one of `texts`."""
    # With textual inversion, a word may stand for several tokens.
    as_encoded = getattr(pipeline, "maybe_convert_prompt", lambda texts, tokenizer: texts)
    tokenizers = [getattr(pipeline, name, None) for name in TOKENIZERS]
    encoders = [
        encoder_of(tokenizer, lambda: default_sequence_length(type(pipeline)), as_encoded)
        for tokenizer in tokenizers
        if tokenizer is not None
    ]
    check_lengths(texts, encoders, model)


def _scheduler(text: str, own, model: str):
    """The scheduler of the plan's column `scheduler`, for the checkpoint `model` with the scheduler `own`."""
    import diffusers

    check_scheduler(text)
    check_flow_matching(model, type(own).__name__, own.config, text)
    name, options = scheduler_settings(text)
    try:
        return getattr(diffusers, name).from_config(own.config, **options)
    except (TypeError, ValueError, NotImplementedError, ImportError) as error:
        # A scheduler of another kind of model, a wrong value of an option, a missing package.
        raise UserError(
            f"generation.scheduler: {name} does not work with this checkpoint ({_first_line(error)})",
            advice="choose another one, or null for the scheduler of the checkpoint",
        ) from error


def _set_attention(denoiser, backend: str, model: str) -> None:
    """Let `denoiser` use the attention backend `backend`; empty: the default of diffusers.

    Raises UserError if diffusers does not choose the backend of this denoiser, or a package is missing.
    """
    from diffusers.utils.constants import DIFFUSERS_ATTN_BACKEND

    processors = [getattr(module, "processor", None) for module in denoiser.modules()]
    if not any(hasattr(processor, "_attention_backend") for processor in processors):
        if backend:
            raise UserError(
                f"generation.attention: {backend} has no effect on {model}: {type(denoiser).__name__} always uses the "
                "attention of torch; leave it out"
            )
        return
    check_attention(backend)
    try:
        # The default is set, too: diffusers keeps the last backend for all models of the process.
        denoiser.set_attention_backend(backend or DIFFUSERS_ATTN_BACKEND)
    except (RuntimeError, ValueError, ImportError) as error:
        raise UserError(
            f"generation.attention: {_first_line(error)}",
            advice="install the package, or choose another backend or null",
        ) from error


def _load_adapters(pipeline, planned: list[dict], base: str) -> None:
    """Load the adapters of the plan's column `adapters` into the model `base`.

    Raises UserError if one has changed since it was planned, or does not fit the model.
    """
    scales = {}
    for number, description in enumerate(planned):
        version = description["version"]
        local = is_local(version)
        keys = {name: value for name, value in description.items() if name != "version"}
        adapter = Adapter.model_validate(keys)
        if local and adapter_version(adapter) != version:
            raise UserError(f"{adapter.model}: the adapter has changed since the plan was made", advice=_PLAN_AGAIN)
        if adapter.kind == "lora" and find_spec("peft") is None:
            raise UserError(
                "generation.adapters: kind lora needs the package peft", advice="pip install 'synaug[lora]'"
            )
        name = f"adapter{number}"
        shown = f"{adapter.model}/{adapter.file}" if adapter.file else adapter.model
        if local:
            shown = adapter_files(adapter)[0]
        try:
            path = Path(shown) if local else download_adapter(adapter.model, version, adapter.kind, adapter.file)
            model, settings = str(path.parent), {"weight_name": path.name, "use_safetensors": True}
            if adapter.kind == "lora":
                scales[name] = adapter.scale
                pipeline.load_lora_weights(model, adapter_name=name, **settings)
                layers, loaded = _lora_layers(pipeline, model, name, settings)
                if not loaded:
                    raise ValueError("the model has none of its layers")
                if loaded < layers:
                    raise ValueError(f"the model has {loaded} of its {layers} layers")
                pipeline.set_adapters(name)  # peft reports some misfits only here
            else:
                pipeline.load_textual_inversion(model, token=adapter.token, **settings)
        except Exception as error:
            raise UserError(
                f"generation.adapters: {shown} cannot be loaded into {base} ({short_text(error)})",
                advice=f"choose an adapter of kind {adapter.kind} that was made for this model",
            ) from error
    if scales:
        # Merged into the weights, they cost no time while sampling.
        pipeline.set_adapters(list(scales), list(scales.values()))
        pipeline.fuse_lora(adapter_names=list(scales))
        pipeline.unload_lora_weights()


def download_adapter(
    model: str, revision: str | None, kind: str, file: str | None, local_files_only: bool = False
) -> Path:
    """The weights of an adapter of the hub, which are downloaded if they are missing. kind, file: as in the config.

    local_files_only: missing weights are an OSError. Other exceptions are those of huggingface_hub.
    """
    from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE
    from diffusers.loaders.textual_inversion import TEXT_INVERSION_NAME_SAFE
    from huggingface_hub import get_cached_repo_tree, hf_hub_download, snapshot_download

    if file is None and kind == "textual_inversion":
        file = TEXT_INVERSION_NAME_SAFE
    elif file is None:
        # diffusers guesses the name from a listing of the hub, which no job has offline. This call caches a listing;
        # the pattern is a small file that every repository has.
        snapshot_download(
            model, revision=revision, allow_patterns=[".gitattributes"], local_files_only=local_files_only
        )
        paths = [entry.path for entry in get_cached_repo_tree(model, revision=revision)]
        others = ("scheduler", "optimizer", "checkpoint")  # as in diffusers
        paths = [path for path in paths if path.endswith(".safetensors") and not any(word in path for word in others)]
        usual = [path for path in paths if path.endswith(LORA_WEIGHT_NAME_SAFE)]
        file = next(iter(usual or paths), LORA_WEIGHT_NAME_SAFE)
    return Path(hf_hub_download(model, file, revision=revision, local_files_only=local_files_only))


def _lora_layers(pipeline, model: str, name: str, settings: dict) -> tuple[int, int]:
    """Number of layers that the file of a LoRA is for, and of those that the pipeline has loaded from it as `name`.

    diffusers loads the layers that fit and logs a warning about the others.
    """
    weights = pipeline.lora_state_dict(model, **settings)
    weights = weights[0] if isinstance(weights, tuple) else weights  # some families also return the alphas
    # Names of peft, of diffusers, and two that diffusers makes of kohya's.
    marks = (".lora_A", ".lora.down", "_lora.down", ".lora_linear_layer.down")
    in_file = {key.partition(mark)[0] for key in weights for mark in marks if mark in key}
    modules = [
        module
        for part in pipeline.components.values()
        if isinstance(part, torch.nn.Module)
        for module in part.modules()
    ]
    return len(in_file), sum(name in getattr(module, "lora_A", ()) for module in modules)


def _first_line(error: Exception) -> str:
    text = str(error).strip().split("\n", 1)[0]
    return f"{text} ({type(error).__name__})" if text else type(error).__name__
