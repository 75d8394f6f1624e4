"""Config block `generator`."""

from typing import Literal

from pydantic import Field

from synaug.config.base import Block, NormalPath
from synaug.config.training import Sampling


class Generator(Block):
    """A small text-to-image model that the target `train_generator` trains on labelled images."""

    images: NormalPath = Field(
        description="Parquet table with the columns image {bytes, path} and label_name, of which the test and "
        "validation split are left out; or real.parquet of an experiment, of which the training split is used."
    )
    output: NormalPath = Field(
        description="Folder of the trained checkpoint, in the diffusers layout: a new or empty folder, or the output "
        "of an earlier training, which is replaced."
    )
    start: NormalPath | None = Field(
        None,
        description="Folder of a checkpoint that train_generator wrote with the same size and color, to start from; "
        "null: from random weights.",
    )
    size: int = Field(
        32, ge=16, le=512, multiple_of=8, description="Side of the square images that it makes, in pixels."
    )
    color: Literal["grey", "rgb"] = Field("rgb", description="Channels of the images that it makes. grey: 1; rgb: 3.")
    autoencoder_steps: int = Field(4000, ge=1, description="Optimiser steps of the autoencoder.")
    denoiser_steps: int = Field(20000, ge=1, description="Optimiser steps of the text encoder and the denoiser.")
    sampling: Sampling = Field(
        "uniform",
        description="How the batches of the denoiser are drawn; the values are those of training.sampling. With "
        "groups, a class in a group counts as a class.",
    )
    batch_size: int = Field(128, ge=2, description="Images per optimiser step.")
