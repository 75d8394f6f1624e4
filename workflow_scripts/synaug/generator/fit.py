"""Train a text-to-image model from scratch on labelled images, and write it as a folder that any loader knows."""

import hashlib
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from synaug.generator import architecture
from synaug.generator.fit_autoencoder import encode, fit_autoencoder, normalise_latents
from synaug.generator.fit_denoiser import TextToLatents, fit_denoiser
from synaug.generator.loop import Loop
from synaug.training.sampling import image_probabilities

logger = logging.getLogger(__name__)


def train_generator(
    images: np.ndarray, labels: np.ndarray, prompts: list[list[str]], out: Path, work: Path, *, size: int,
    autoencoder_steps: int, denoiser_steps: int, batch_size: int = 64, sampling: str = "uniform", seed: int = 0,
    autoencoder_width: int = 16, denoiser_width: int = 96, latent_channels: int = 8,
    autoencoder_learning_rate: float = 2e-3, denoiser_learning_rate: float = 1e-3,
    device: str = "cpu", save_every_s: float = 60,
) -> None:  # fmt: skip
    """Train autoencoder, text encoder and denoiser, and write them to the folder `out` (replaced if it exists).

    The folder has the layout of `StableDiffusionPipeline`, with weights in safetensors at half precision.

    images: uint8, N x H x H (grey) or N x H x H x 3; they are resized to `size` (pixels, a multiple of 8, 16 to 512).
    labels: N integers. prompts: for each label, in several wordings, the captions that it is to be known by.
    work: folder for the state of an interrupted training, saved every `save_every_s` seconds. The same call with the
    same folder goes on from there, and ends as it would have without the interruption.
    sampling: what a batch of the denoiser is drawn from: uniform (all images), class_balanced or square_root (of the
    class sizes): a class that is seen more often is drawn better, and repeated more.
    Steps are batches of `batch_size` images; widths are channels (denoiser: a multiple of 32).

    The same arguments on the same machine with the same number of threads give the same weights.
    Raises ValueError, in one line, if the arguments do not fit together.
    """
    _check(images, labels, prompts, size)
    for name, value in {"autoencoder_steps": autoencoder_steps, "denoiser_steps": denoiser_steps,
                        "batch_size": batch_size}.items():  # fmt: skip
        if value < 1:
            raise ValueError(f"{name}: {value} is not a positive number")
    out, work = Path(out), Path(work)
    work.mkdir(parents=True, exist_ok=True)
    pixels = _resize(images, size)
    common = {"batch_size": batch_size, "seed": seed, "save_every_s": save_every_s}

    torch.manual_seed(seed)
    autoencoder = architecture.build_autoencoder(size, pixels.shape[1], autoencoder_width, latent_channels)
    autoencoder.to(device, memory_format=torch.channels_last)
    settings = [_public(autoencoder.config), autoencoder_steps, autoencoder_learning_rate, batch_size, seed]
    fingerprint = _fingerprint(pixels, *settings)
    loop = Loop(
        "autoencoder", autoencoder_steps, learning_rate=autoencoder_learning_rate, file=work / "autoencoder.pt",
        fingerprint=fingerprint, **common,
    )  # fmt: skip
    fit_autoencoder(autoencoder, pixels, loop)
    latents = normalise_latents(autoencoder, *encode(autoencoder, pixels))

    flat = ["", *(caption for captions in prompts for caption in captions)]
    wordings = list(torch.arange(1, len(flat)).split([len(captions) for captions in prompts]))
    tokenizer = architecture.build_tokenizer(flat)
    ids = tokenizer(flat, padding="max_length", truncation=True, return_tensors="pt").input_ids
    torch.manual_seed(seed)
    text_encoder = architecture.build_text_encoder(tokenizer)
    denoiser = architecture.build_denoiser(
        latents[0].shape[-1], latent_channels, text_encoder.config.hidden_size, denoiser_width
    )
    model = TextToLatents(text_encoder, denoiser).to(device, memory_format=torch.channels_last)
    settings = [_public(denoiser.config), text_encoder.config.to_dict(), denoiser_steps, denoiser_learning_rate]
    targets = torch.as_tensor(labels, dtype=torch.long)
    shares = image_probabilities(targets.numpy(), sampling)
    loop = Loop(
        "denoiser", denoiser_steps, learning_rate=denoiser_learning_rate, file=work / "denoiser.pt",
        fingerprint=_fingerprint(fingerprint, targets, prompts, sampling, *settings), **common,
    )  # fmt: skip
    trained = fit_denoiser(model, latents, targets, ids, wordings, shares, loop)
    # Half the size, and no visible difference; loaders choose the precision that they compute with.
    parts = (part.to("cpu", torch.float16) for part in (trained.text_encoder, autoencoder, trained.denoiser))
    _write(architecture.assemble(tokenizer, *parts), out)


def _check(images: np.ndarray, labels: np.ndarray, prompts: list[list[str]], size: int) -> None:
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise ValueError(f"images: uint8 N x H x H or N x H x H x 3 is wanted, not {images.dtype} {images.shape}")
    if len(images) == 0 or images.shape[1] != images.shape[2]:
        raise ValueError(f"images: at least one, and square, is wanted, not {images.shape}")
    if size % 8 or not 16 <= size <= 512:
        raise ValueError(f"size: {size} is not a multiple of 8 between 16 and 512 (pixels)")
    if len(labels) != len(images):
        raise ValueError(f"labels: {len(labels)} of them for {len(images)} images")
    if labels.min() < 0 or labels.max() >= len(prompts):
        raise ValueError(f"labels: {labels.min()} to {labels.max()}, but prompts are given for 0 to {len(prompts) - 1}")
    for label, captions in enumerate(prompts):
        if not captions or not all(caption.strip() for caption in captions):
            raise ValueError(f"prompts: label {label} has no caption, or an empty one")


def _resize(images: np.ndarray, size: int) -> torch.Tensor:
    """uint8, N x C x size x size, in pieces, since the floats of a whole data set need not fit into memory."""
    pixels = torch.as_tensor(images)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    if pixels.shape[2] == size:
        return pixels.contiguous()
    resized = [
        functional.interpolate(part.float(), (size, size), mode="bicubic", antialias=True).round().clamp(0, 255).byte()
        for part in pixels.split(1024)
    ]
    return torch.cat(resized)


def _fingerprint(*parts) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, torch.Tensor):
            part = part.numpy()
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return digest.hexdigest()


def _public(config: dict) -> list:
    """The settings of a diffusers config; what it notes for itself comes in another order in every process."""
    return sorted((key, value) for key, value in config.items() if not key.startswith("_"))


def _write(pipeline, out: Path) -> None:
    """Save to `out` in one move, so that a folder of that name is always whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial_out, old = (out.with_name(f".{out.name}.{what}-{os.getpid()}") for what in ("partial", "old"))
    pipeline.save_pretrained(partial_out, safe_serialization=True)
    if out.exists():
        out.rename(old)
    partial_out.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    logger.info("wrote %s", out)
