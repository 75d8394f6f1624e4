"""Config block `generator`: training a small generator."""

from typing import Literal

from pydantic import Field

from synaug.config.base import Model
from synaug.config.training import Sampling


class GeneratorTraining(Model):
    """`snakemake train_generator`: a small text-to-image model of one's own (not part of the default run)."""

    images: str = Field(
        description="Parquet with the columns image {bytes, path} and label_name, or a manifest `real`."
    )
    output: str = Field(description="Folder of the checkpoint that is written; replaced, with all that is in it.")
    size: int = Field(32, ge=8, multiple_of=8, description="Side of the square images it will make, pixels.")
    color: Literal["grey", "rgb"] = Field("rgb", description="Channels of the images it will make.")
    autoencoder_steps: int = Field(4000, ge=1, description="Optimiser steps of the autoencoder.")
    denoiser_steps: int = Field(20000, ge=1, description="Optimiser steps of the text encoder and the denoiser.")
    sampling: Sampling = Field("uniform", description="What a batch of the denoiser is drawn from, as in stage 1.")
    batch_size: int = Field(128, ge=2, description="Images per step.")
