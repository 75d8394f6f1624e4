"""The sampling loop: from rows of the plan to pixels."""

import functools
import inspect
import logging
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from diffusers.training_utils import free_memory

from synaug.runtime.errors import UserError, one_line

log = logging.getLogger(__name__)

# The rows of one batch agree in these columns.
BATCH_COLUMNS = [
    "size",
    "original_size",
    "stored_size",
    "color",
    "format",
    "steps",
    "guidance",
    "strength",
    "negative_prompt",
]


def sample(
    pipeline, rows: pd.DataFrame, batch_size: int, sources: Mapping[str, np.ndarray] | None = None
) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Yield (rows of a batch, their pixels: uint8, N x stored_size x stored_size x channels), batch by batch.

    rows: of the plan, all of one model. sources: for image-to-image, image_id -> uint8, size x size x 3.
    The rows that are yielded have a column `batch_size` with the size that was used: it is halved when memory runs out.

    Every image has its own random generator, on the CPU, also for the noise of the scheduler; every prompt is encoded
    on its own; and every batch has the same shape (the last one is padded with copies that are discarded). So an image
    depends neither on the random numbers of the device nor on the other images of its batch.
    Raises UserError if the model cannot sample with the settings of the rows.
    """
    # While a batch is sampled, a thread decodes the real images that the next batch starts from.
    with ThreadPoolExecutor(1) as decoder:
        for _, alike in rows.groupby(BATCH_COLUMNS, sort=True, dropna=False):
            # Sorted by prompt: each prompt is encoded once, and few embeddings have to be kept.
            alike = alike.sort_values(["prompt", "seed"], kind="stable")
            start = 0
            decoded = decoder.submit(_decode, alike.iloc[:batch_size], sources)
            while start < len(alike):
                end = start + batch_size
                batch = alike.iloc[start:end]
                of_next = decoder.submit(_decode, alike.iloc[end : end + batch_size], sources)
                try:
                    pixels = try_batch(pipeline, batch, batch_size, decoded.result())
                except MemoryError:  # of the thread that decodes
                    pixels = None
                if pixels is None:
                    if batch_size == 1:
                        raise UserError(
                            f"generation: out of memory with one image of {batch['size'].iloc[0]} pixels; choose a "
                            "smaller size, half precision, or a device with more memory"
                        )
                    batch_size //= 2
                    again = ", for which the model is compiled again" if is_compiled(pipeline) else ""
                    log.warning("out of memory: continuing with batches of %d%s", batch_size, again)
                    of_next.cancel()
                    decoded = decoder.submit(_decode, alike.iloc[start : start + batch_size], sources)
                    continue
                yield batch.assign(batch_size=batch_size), pixels
                start, decoded = start + len(batch), of_next


def _decode(rows: pd.DataFrame, sources: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray] | None:
    """Those of `sources`, as in `sample`, that `rows` start from; they may be decoded on access."""
    if sources is None:
        return None
    return {image_id: sources[image_id] for image_id in rows["source_image"].dropna().unique()}


def is_compiled(pipeline) -> bool:
    """Whether `compilation.compile_pipeline` has compiled `pipeline`: it sets `decode` of this one decoder."""
    return "decode" in vars(getattr(pipeline, "vae", pipeline))


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch raised `error` because a device (CUDA, MPS, CPU) has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    # The last two: cuBLAS, cuDNN and other libraries of CUDA, which allocate memory of their own.
    words = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED", "ALLOCATION_FAILED")
    return isinstance(error, RuntimeError) and any(word in text for word in words)


def try_batch(
    pipeline, batch: pd.DataFrame, batch_size: int, sources: Mapping[str, np.ndarray] | None = None
) -> np.ndarray | None:
    """The result of `sample_batch`; None if the memory ran out, which is then given back."""
    try:
        return sample_batch(pipeline, batch, batch_size, sources)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    free_memory()  # after the handler: the error holds what was in memory when it was raised
    return None


@torch.inference_mode()
def sample_batch(
    pipeline, batch: pd.DataFrame, batch_size: int, sources: Mapping[str, np.ndarray] | None = None
) -> np.ndarray:
    """Pixels (as in `sample`) of `batch`: at most `batch_size` rows that differ only in prompt, seed and source."""
    padded = batch.iloc[np.minimum(np.arange(batch_size), len(batch) - 1)]
    settings = call_settings(pipeline, padded, sources)
    try:
        with noise_of_each_image(pipeline.scheduler, settings["generator"]):
            images = pipeline(**settings).images
    except ValueError as error:  # raised by the pipeline's checks of its arguments
        raise UserError(
            f"generation: {type(pipeline).__name__}: {' '.join(str(error).split())}", advice="change this setting"
        ) from error
    except (AttributeError, LookupError, TypeError) as error:
        if not batch["scheduler"].iloc[0]:
            raise
        # A scheduler of another kind of model: its methods are missing, or take other arguments.
        raise UserError(
            f"generation.scheduler: {batch['scheduler'].iloc[0]} does not work with {type(pipeline).__name__} "
            f"({one_line(error)})",
            advice="choose another one, or null for the scheduler of the checkpoint",
        ) from error
    first, size = batch.iloc[0], batch["size"].iloc[0]
    if tuple(images.shape[-2:]) != (size, size):
        width, height = images.shape[-1], images.shape[-2]
        raise UserError(
            f"generation.size: the model makes {width} x {height} pixels instead of {size} x {size}; set size to that"
        )
    return to_uint8(images, int(first["stored_size"]), first["color"])[: len(batch)]


@contextmanager
def noise_of_each_image(scheduler, generators: list[torch.Generator]) -> Generator[None]:
    """Within this context, the noise that `scheduler` adds to an image comes from the generator of the image.

    generators: one for each image of the batch. Some pipelines of diffusers (DiT, SD3, FLUX) give `scheduler.step` no
    generator, and DPMSolverSDEScheduler accepts none. Their noise would come from the global random state.
    """
    step = scheduler.step
    signature = inspect.signature(step)

    @functools.wraps(step)  # pipelines inspect the signature
    def step_with_generators(*args, **kwargs):
        call = signature.bind(*args, **kwargs)
        # With guidance, DiT steps its batch twice: each image in the first half, and its copy in the second half.
        copies = len(call.arguments["sample"]) // len(generators)
        if "generator" in signature.parameters and call.arguments.get("generator") is None:
            call.arguments["generator"] = generators * copies
        if hasattr(scheduler, "noise_sampler_seed"):  # DPMSolverSDEScheduler: seeds of the Brownian motions
            scheduler.noise_sampler_seed = [generator.initial_seed() for generator in generators] * copies
        return step(*call.args, **call.kwargs)

    scheduler.step = step_with_generators
    try:
        yield
    finally:
        scheduler.step = step


def call_settings(pipeline, rows: pd.DataFrame, sources: Mapping[str, np.ndarray] | None = None) -> dict:
    """Arguments of `pipeline(...)` for `rows`, which differ only in prompt, seed and source.

    Optional arguments are passed only to pipelines that have them. Raises UserError if the pipeline lacks a needed one.
    """
    first = rows.iloc[0]
    parameters = set(inspect.signature(type(pipeline).__call__).parameters)
    settings = {
        "num_inference_steps": int(first["steps"]),
        "guidance_scale": float(first["guidance"]),
        "generator": [torch.Generator("cpu").manual_seed(int(seed)) for seed in rows["seed"]],
        "output_type": "pt",
    }
    if first["pipeline"] == "class-conditional":
        settings["class_labels"] = [class_number(pipeline, prompt) for prompt in rows["prompt"]]
    else:
        settings["prompt"] = rows["prompt"].tolist()
    if first["pipeline"] == "image-to-image":
        images = np.stack([sources[image_id] for image_id in rows["source_image"]])
        images = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        if pipeline.vae.config.in_channels == 1:
            images = images.mean(1, keepdim=True)
        settings |= {"image": images, "strength": float(first["strength"])}
    if "height" in parameters:
        settings |= {"height": int(first["size"]), "width": int(first["size"])}
    if first["original_size"]:
        if "original_size" not in parameters:
            raise UserError(f"generation.original_size: {type(pipeline).__name__} has no such input; leave it out")
        settings["original_size"] = (int(first["original_size"]), int(first["original_size"]))
    if first["negative_prompt"]:
        if "negative_prompt" not in parameters:
            raise UserError(f"prompts.negative: {type(pipeline).__name__} has no negative prompt; leave it empty")
        settings["negative_prompt"] = [first["negative_prompt"]] * len(rows)
    # Otherwise PixArt and Sana sample at a size they were trained with, and scale the image.
    settings |= {name: False for name in ("use_resolution_binning", "clean_caption") if name in parameters}
    return settings


def class_number(pipeline, prompt: str) -> int:
    """The class of a class-conditional model that `prompt` names: a number, or one of the model's words for it."""
    labels = getattr(pipeline, "labels", {}) or {}
    count = pipeline.transformer.config.num_embeds_ada_norm
    if prompt in labels:
        return labels[prompt]
    if prompt.isdecimal() and int(prompt) < count:
        return int(prompt)
    words = f"words such as {', '.join(sorted(labels)[:3])}, or " if labels else ""
    raise UserError(
        f"prompts: {prompt!r} is no class of the model; it knows {words}numbers from 0 to {count - 1}",
        advice="give each class one of them in prompts.names, and use the template '{label}'",
    )


def to_uint8(images: torch.Tensor, size: int, color: str) -> np.ndarray:
    """Float images in 0 to 1 (N x 1 or 3 x H x W) to uint8, N x size x size x channels, computed on their device.

    Scaled with antialiasing (bicubic, like the real images). A NaN becomes 0; screening rejects such images as blank.
    """
    images = images.float().nan_to_num()
    if color == "grey" and images.shape[1] == 3:
        # ITU-R 601 luma: the weights that Pillow converts the real images with.
        images = (images * images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    elif color == "rgb" and images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    if images.shape[-1] != size or images.shape[-2] != size:
        images = F.interpolate(images, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
