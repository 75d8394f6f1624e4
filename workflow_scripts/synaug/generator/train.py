"""Train a text-to-image model on labelled images, from scratch or from a checkpoint, and save it for diffusers."""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from synaug.generator import architecture
from synaug.generator.loop import TrainingLoop
from synaug.generator.output_folder import MODEL_CARD, check_output_folder
from synaug.generator.start import copy_weights, load_text_encoder
from synaug.generator.train_autoencoder import encode, normalise_latents, train_autoencoder
from synaug.generator.train_denoiser import TextToLatents, train_denoiser
from synaug.plan.checkpoints import model_version
from synaug.plan.prompt_length import check_lengths, encoder_of
from synaug.runtime.disk import space_for
from synaug.runtime.files import file_hash, new_folder, sync, text_hash

log = logging.getLogger(__name__)


def train_generator(
    images: np.ndarray, labels: np.ndarray, prompts: list[list[str]], out: Path, work: Path, *, size: int,
    autoencoder_steps: int, denoiser_steps: int, batch_size: int = 64, image_probabilities: torch.Tensor | None = None,
    seed: int = 0, autoencoder_width: int = 16, denoiser_width: int = 96, latent_channels: int = 8,
    autoencoder_learning_rate: float = 2e-3, denoiser_learning_rate: float = 1e-3,
    start: Path | None = None, device: str = "cpu", save_every_s: float = 60, truncate: bool = False,
) -> None:  # fmt: skip
    """Train autoencoder, text encoder and denoiser, and save them in the folder `out`.

    The folder has the layout of `StableDiffusionPipeline`, with safetensors weights at half precision. A model that
    this function wrote before is replaced; a README.md next to it is kept.

    images: uint8, N x H x H (grey) or N x H x H x 3; resized to `size` (pixels, a multiple of 8, 16 to 512).
    labels: int, N. prompts: for each label, its captions in several wordings.
    work: folder for the state of an interrupted training, saved every `save_every_s` seconds. The same call with the
    same folder continues from there and ends in the same weights as an uninterrupted training.
    image_probabilities: N, how likely each image is drawn for a batch of the denoiser; None: uniform. A class that is
    drawn more often is learnt better, and its training images are repeated more.
    start: folder of a checkpoint of the same architecture to start from; None: from random weights.
    truncate: cut captions that are longer than the text encoder reads.
    Steps are batches of `batch_size` images; widths are channels (denoiser: a multiple of 32).

    The same arguments on the same machine with the same number of threads give the same weights.
    Raises ValueError, in one line, if the arguments do not fit together, and UserError if `out` must not be replaced
    (see `check_output_folder`), or if a caption would be cut and `truncate` is false.
    """
    _check(images, labels, prompts, size)
    for name, value in {"autoencoder_steps": autoencoder_steps, "denoiser_steps": denoiser_steps,
                        "batch_size": batch_size}.items():  # fmt: skip
        if value < 1:
            raise ValueError(f"{name}: {value} is not a positive number")
    check_output_folder(out, [work])
    out, work = Path(os.path.realpath(out)), Path(work)
    work.mkdir(parents=True, exist_ok=True)
    pixels = _resize(images, size)
    common = {"batch_size": batch_size, "seed": seed, "save_every_s": save_every_s}

    torch.manual_seed(seed)
    autoencoder = architecture.build_autoencoder(size, pixels.shape[1], autoencoder_width, latent_channels)
    # Without a start the fingerprint is what it has always been, so that an interrupted training is continued.
    version = [model_version(str(start), None)] if start else []
    if start:
        copy_weights(autoencoder, start, "vae")
    autoencoder.to(device, memory_format=torch.channels_last)
    settings = [_public(autoencoder.config), autoencoder_steps, autoencoder_learning_rate, batch_size, seed]
    fingerprint = _fingerprint(pixels, *settings, *version)
    loop = TrainingLoop(
        "autoencoder", autoencoder_steps, learning_rate=autoencoder_learning_rate, file=work / "autoencoder.pt",
        fingerprint=fingerprint, **common,
    )  # fmt: skip
    train_autoencoder(autoencoder, pixels, loop)
    latents = normalise_latents(autoencoder, *encode(autoencoder, pixels))

    # Row 0 is the empty prompt, for classifier-free guidance.
    captions = ["", *(caption for wordings in prompts for caption in wordings)]
    caption_rows = list(torch.arange(1, len(captions)).split([len(wordings) for wordings in prompts]))
    if start:
        tokenizer, text_encoder = load_text_encoder(start, captions)
        torch.manual_seed(seed)
    else:
        tokenizer = architecture.build_tokenizer(captions)
        torch.manual_seed(seed)
        text_encoder = architecture.build_text_encoder(tokenizer)
    if not truncate:
        check_lengths(captions, [encoder_of(tokenizer, lambda: None)], str(out))
    tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    denoiser = architecture.build_denoiser(
        latents[0].shape[-1], latent_channels, text_encoder.config.hidden_size, denoiser_width
    )
    if start:
        copy_weights(denoiser, start, "unet")
    model = TextToLatents(text_encoder, denoiser).to(device, memory_format=torch.channels_last)
    settings = [_public(denoiser.config), text_encoder.config.to_dict(), denoiser_steps, denoiser_learning_rate]
    targets = torch.as_tensor(labels, dtype=torch.long)
    loop = TrainingLoop(
        "denoiser", denoiser_steps, learning_rate=denoiser_learning_rate, file=work / "denoiser.pt",
        # `tokens`: a state belongs to the numbers of its tokens, which were not always the same in earlier versions.
        fingerprint=_fingerprint(fingerprint, targets, prompts, image_probabilities, tokens, *settings), **common,
    )  # fmt: skip
    trained = train_denoiser(model, latents, targets, tokens, caption_rows, image_probabilities, loop)
    # Half precision: half the size and no visible difference; loaders choose the precision that they compute with.
    # `to` of diffusers' models warns of parts that must stay at full precision, also if there are none.
    text_encoder, autoencoder, denoiser = (
        torch.nn.Module.to(part, "cpu", torch.float16) for part in (trained.text_encoder, autoencoder, trained.denoiser)
    )
    _save(architecture.assemble(tokenizer, text_encoder, autoencoder, denoiser), out)


def _check(images: np.ndarray, labels: np.ndarray, prompts: list[list[str]], size: int) -> None:
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise ValueError(f"images: must be uint8, N x H x H or N x H x H x 3, not {images.dtype} {images.shape}")
    if len(images) == 0 or images.shape[1] != images.shape[2]:
        raise ValueError(f"images: must be square, and at least one, not {images.shape}")
    if size % 8 or not 16 <= size <= 512:
        raise ValueError(f"size: {size} is not a multiple of 8 between 16 and 512 (pixels)")
    if len(labels) != len(images):
        raise ValueError(f"labels: {len(labels)} labels for {len(images)} images")
    if labels.min() < 0 or labels.max() >= len(prompts):
        raise ValueError(f"labels: {labels.min()} to {labels.max()}, but prompts are given for 0 to {len(prompts) - 1}")
    for label, captions in enumerate(prompts):
        if not captions or not all(caption.strip() for caption in captions):
            raise ValueError(f"prompts: label {label} has no caption, or an empty one")


def _resize(images: np.ndarray, size: int) -> torch.Tensor:
    """uint8, N x C x size x size. In chunks, since the floats of a whole data set may not fit into memory."""
    pixels = torch.as_tensor(images)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    if pixels.shape[2] == size:
        return pixels.contiguous()
    resized = [
        functional.interpolate(chunk.float(), (size, size), mode="bicubic", antialias=True).round().clamp(0, 255).byte()
        for chunk in pixels.split(1024)
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
    """The settings of a diffusers config, without its private entries: their order differs between processes."""
    return sorted((key, value) for key, value in config.items() if not key.startswith("_"))


def _record_weights(folder: Path) -> None:
    """Write a hash of the weights into model_index.json, which otherwise would be the same after every training.

    It is the one file by which Snakemake notices another training. diffusers ignores keys with an underscore.
    """
    file = folder / "model_index.json"
    hashes = [file_hash(weights) for weights in sorted(folder.rglob("*.safetensors"))]
    index = json.loads(file.read_text()) | {"_synaug_weights": text_hash(hashes)}
    file.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _save(pipeline, out: Path) -> None:
    """Save to `out` by renaming a finished folder, so that a folder of that name is always complete."""
    check_output_folder(out)  # again: training may have taken hours
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    size = sum(weight.nbytes for module in modules for weight in module.state_dict().values())
    with new_folder(out, replace=True) as folder, space_for(out, size):
        pipeline.save_pretrained(folder, safe_serialization=True)
        _record_weights(folder)
        if (out / MODEL_CARD).exists():
            shutil.copy2(out / MODEL_CARD, folder)
        for file in folder.rglob("*"):
            if file.is_file():
                sync(file)
    log.info("wrote %s", out)
