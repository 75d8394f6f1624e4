"""Config block `adaptation`."""

from typing import Literal

from pydantic import Field

from synaug.config.base import Block, NormalPath
from synaug.config.training import Sampling


class Adaptation(Block):
    """A LoRA adapter that the target `adapt_generator` trains: `generation.model` learns the classes of the data set.

    It is trained on the training images of the experiment, at `generation.size`, with the templates of `prompts`.
    """

    output: NormalPath = Field(
        description="Folder of the adapter: a new or empty folder, or the output of an earlier training, which is "
        "replaced. An entry of generation.adapters with this `model` uses it."
    )
    rank: int = Field(16, ge=1, description="Rank of the low-rank changes; alpha is the same number.")
    layers: Literal["attention", "all"] = Field(
        "attention",
        description="Which layers of the denoiser change. all: also convolutions and feed-forward layers, for images "
        "that are far from what the model has seen.",
    )
    text_encoder: bool = Field(
        False, description="Also adapt the text encoders. For Stable Diffusion 1 and 2 and SDXL; SD3 has no support."
    )
    steps: int = Field(4000, ge=1, description="Optimiser steps. 4,000 steps of 8 images are 32,000 image views.")
    batch_size: int = Field(
        8, ge=1, description="Images per optimiser step. If memory runs out, a step is done in smaller parts."
    )
    learning_rate: float = Field(
        1e-4, gt=0, description="Highest learning rate: it rises for up to 100 steps, then falls as a cosine to 0."
    )
    sampling: Sampling = Field(
        "square_root",
        description="How the batches are drawn; the values are those of training.sampling. With groups, a class in a "
        "group counts as a class.",
    )
    caption_dropout: float = Field(
        0.1, ge=0, le=1, description="Share of images that are trained without a caption, which guidance needs."
    )
    snr_gamma: float | None = Field(
        5.0,
        gt=0,
        description="Limit of the loss weights by the signal-to-noise ratio (min-SNR), for models that predict noise "
        "or velocity; null: no weights. No effect on SD3.",
    )
    flip: bool = Field(True, description="Mirror half of the images. false if left and right matter, as in letters.")
    precision: Literal["float32", "float16", "bfloat16"] = Field(
        "bfloat16", description="Floating-point type of the frozen model. The adapter is always float32."
    )
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        "adamw", description="adamw_8bit needs less memory, a CUDA GPU and the package bitsandbytes."
    )
    gradient_checkpointing: bool = Field(
        False, description="Needs less memory and more time. It does not change the adapter."
    )
