"""Config blocks of step 4: recipes; and of the training of a generator of one's own."""

from typing import Literal

from pydantic import Field

from synaug.config.base import Model


class Mixup(Model):
    """Mixup (Zhang et al. 2018) of a batch's images and labels."""

    alpha: float = Field(gt=0, description="Both parameters of the Beta distribution of the mixing weight.")
    pairing: Literal["random", "real_synthetic"] = Field(
        "real_synthetic", description="Partners: any image of the batch, or always one of the other domain."
    )


class Stage1(Model):
    """Training of the whole network."""

    backbone: Literal["resnet8"] = Field(
        "resnet8", description="Network; resnet8: three residual blocks, for small images."
    )
    width: int = Field(
        32, ge=4, description="Channels of the first residual block; the others have 2 and 4 times that."
    )
    steps: int = Field(1000, ge=1, description="Optimiser steps: the budget, whatever the number of images.")
    batch_size: int = Field(128, ge=2, description="Images per step.")
    learning_rate: float = Field(0.1, gt=0, description="Peak rate of SGD with momentum; warm-up, then cosine to 0.")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty on all weights.")
    shift: int = Field(2, ge=0, description="Augmentation: random translation by up to so many pixels.")
    flip: bool = Field(True, description="Augmentation: random horizontal flip.")
    mixup: Mixup | None = Field(None, description="Mixup; null: none.")


class Stage2(Model):
    """Re-training of the last layer on a few real images, everything before it frozen."""

    images_per_class: int | None = Field(
        None, ge=1, description="Real images per class, the same for all; null: as many as the smallest class has."
    )
    start: Literal["warm", "fresh"] = Field("warm", description="Last layer: as stage 1 left it, or initialised anew.")
    steps: int = Field(100, ge=1, description="Optimiser steps.")
    batch_size: int = Field(64, ge=1, description="Images per step.")
    learning_rate: float = Field(0.001, gt=0, description="Peak rate of SGD with momentum; cosine to 0.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty on the last layer.")


class Recipe(Model):
    """A way to train: which images, stage 1, and perhaps stage 2."""

    data: Literal["real", "balanced"] = Field(description="Rows of the balanced manifest: the real ones, or all.")
    stage1: Stage1 = Field(description="Overrides of the top-level `training`.")
    stage2: Stage2 | None = Field(None, description="Fine-tuning of the last layer; null: none.")


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
    batch_size: int = Field(128, ge=2, description="Images per step.")
