"""Config block `recipes`: what networks are trained on, and how."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from synaug.config.base import Model, Name


class Mixup(Model):
    """Mixup (Zhang et al. 2018) of a batch's images and labels."""

    alpha: float = Field(gt=0, description="Both parameters of the Beta distribution of the mixing weight.")
    pairing: Literal["random", "real_synthetic"] = Field(
        "real_synthetic", description="Partners: any image of the batch, or always one of the other domain."
    )


class CutMix(Model):
    """CutMix (Yun et al. 2019): a rectangle of the partner is pasted into the image."""

    alpha: float = Field(gt=0, description="Both parameters of the Beta distribution of the share that is left.")
    pairing: Literal["random", "real_synthetic"] = Field("real_synthetic", description="As of mixup.")


class RandAugment(Model):
    """RandAugment (Cubuk et al. 2020), as torchvision does it: random operations on every image."""

    operations: int = Field(2, ge=1, description="Operations per image, drawn from 14.")
    magnitude: int = Field(9, ge=0, le=30, description="Their strength.")


class JTT(Model):
    """Just Train Twice (Liu et al. 2021): needs no groups."""

    steps: int = Field(ge=1, description="Steps of the first training.")
    weight: float = Field(gt=0, description="Weight in the second one of an image that the first network gets wrong.")


class Loss(Model):
    """The loss of an image; formulas and sources: synaug/training/losses.py."""

    name: Literal["cross_entropy", "focal", "balanced_softmax", "logit_adjustment", "ldam"] = Field(
        "cross_entropy", description="ldam needs `head: cosine`."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Not with focal and ldam.")
    gamma: float = Field(1.0, ge=0, description="focal: exponent of what is lacking to certainty.")
    tau: float = Field(1.0, gt=0, description="logit_adjustment: how much of the log prior is added.")
    margin: float = Field(0.5, gt=0, description="ldam: margin of the smallest class.")

    @model_validator(mode="after")
    def _parameters_are_used(self):
        used = {"focal": {"gamma"}, "ldam": {"margin"}, "logit_adjustment": {"tau", "label_smoothing"}}
        for key in ("label_smoothing", "gamma", "tau", "margin"):
            default = type(self).model_fields[key].default
            if getattr(self, key) != default and key not in used.get(self.name, {"label_smoothing"}):
                raise ValueError(f"{key} has no effect on {self.name}; leave it out")
        return self


Sampling = Literal["uniform", "class_balanced", "square_root", "group_balanced"]
ClassWeights = Literal["none", "inverse", "effective"]


class Stage1(Model):
    """Training of the whole network."""

    backbone: str = Field(
        "resnet8",
        pattern=r"^(resnet8|resnet32|torchvision/\w+|timm/[\w.]+)$",
        description="resnet8 (three residual blocks), resnet32 (that for CIFAR), torchvision/<name> or timm/<name>.",
    )
    width: int | None = Field(
        None,
        ge=4,
        description="resnet8, resnet32: channels of the first blocks, then 2 and 4 times that; null: 32 and 16.",
    )
    pretrained: bool | str = Field(
        False, description="torchvision, timm: true: start from the library's weights; or from a safetensors file."
    )
    head: Literal["linear", "cosine"] = Field(
        "linear", description="Last layer; cosine: of normalised features and weights, times 30, as in LDAM."
    )
    steps: int = Field(1000, ge=1, description="Optimiser steps: the budget, whatever the number of images.")
    batch_size: int = Field(128, ge=2, description="Images per step.")
    learning_rate: float = Field(0.1, gt=0, description="Peak rate of SGD with momentum; warm-up, then cosine to 0.")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty on all weights.")
    shift: int = Field(2, ge=0, description="Augmentation: random translation by up to so many pixels.")
    flip: bool = Field(True, description="Augmentation: random horizontal flip.")
    crop_area: float = Field(
        1.0, gt=0, le=1, description="Augmentation: smallest share of the image that a random crop shows; 1: no crop."
    )
    randaugment: RandAugment | None = Field(None, description="RandAugment; null: none.")
    mixup: Mixup | None = Field(None, description="Mixup; null: none.")
    cutmix: CutMix | None = Field(None, description="CutMix; with mixup, every batch takes one of them; null: none.")
    loss: Loss = Loss()
    class_weights: ClassWeights = Field(
        "none", description="Weight of an image in the loss by its class: 1 / n, or 1 / effective number."
    )
    deferred: float = Field(
        0.0, ge=0, lt=1, description="Share of the steps before class_weights begin (0.8: deferred re-weighting, DRW)."
    )
    sampling: Sampling = Field(
        "uniform",
        description="What a batch is drawn from: all images; classes alike, or by the root of their size; or every "
        "class in every group alike.",
    )
    synthetic_weight: float = Field(1.0, gt=0, description="Weight of a synthetic image in the loss; of a real one: 1.")
    synthetic_first: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the steps that see synthetic images alone; those after it real ones alone.",
    )
    group_dro: float | None = Field(
        None, gt=0, description="GroupDRO: step size of the shares of classes in groups in the loss; null: off."
    )
    jtt: JTT | None = Field(None, description="Train twice: what the first network gets wrong weighs more; null: off.")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="SGD with Nesterov momentum 0.9, or AdamW.")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Of the network's arithmetic; the weights stay float32."
    )
    devices: int = Field(1, ge=1, description="GPUs that train one network together, each its share of a batch.")
    ema: float | None = Field(
        None, gt=0, lt=1, description="Decay per step of the averaged weights that are kept; null: the last weights."
    )

    @model_validator(mode="after")
    def _fits(self):
        if self.group_dro is not None and (self.mixup or self.cutmix):
            raise ValueError("group_dro goes with neither mixup nor cutmix: a mixed image lies in no cell")
        if self.deferred and self.class_weights == "none":
            raise ValueError("deferred has no effect without class_weights")
        if "/" in self.backbone and self.width is not None:
            raise ValueError(f"width has no effect on {self.backbone}; leave it out")
        if self.pretrained and "/" not in self.backbone:
            raise ValueError(f"pretrained is for torchvision/ and timm/; there are no such weights of {self.backbone}")
        if self.loss.name == "ldam" and self.head != "cosine":
            raise ValueError("loss ldam needs head: cosine, since its margins are those of cosines")
        return self


class Stage2(Model):
    """Re-training or re-scaling of the last layer on real images, everything before it frozen."""

    method: Literal["retrain", "scale", "tau_norm", "logit_adjustment", "dfr"] = Field(
        "retrain",
        description="retrain: the last layer; scale: one factor per class (LWS); dfr: sparse logistic regression on "
        "draws of images_per_class, averaged. Without training: tau_norm divides a class's weights by their norm to "
        "the power of tau; logit_adjustment takes tau log prior from the logits.",
    )
    draws: int = Field(10, ge=1, description="dfr: draws of images that are averaged.")
    inverse_l1: float = Field(1.0, gt=0, description="dfr: inverse of the L1 penalty; less gives fewer weights.")
    images_per_class: Annotated[int, Field(ge=1)] | Literal["all"] | None = Field(
        None,
        description="Real images of every class, or class in a group; null: as many as the smallest has; all: all.",
    )
    sampling: Sampling = Field("uniform", description="As in stage 1; for images_per_class: all.")
    class_weights: ClassWeights = Field("none", description="As in stage 1; for images_per_class: all.")
    start: Literal["warm", "fresh"] = Field("warm", description="Last layer: as stage 1 left it, or initialised anew.")
    steps: int = Field(100, ge=1, description="Optimiser steps.")
    batch_size: int = Field(64, ge=1, description="Images per step.")
    learning_rate: float = Field(0.001, gt=0, description="Peak rate of SGD with momentum; cosine to 0.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty on the last layer.")
    max_norm: float | None = Field(
        None, gt=0, description="retrain: the weights of a class are scaled down to this norm after every step."
    )
    tau: float = Field(1.0, gt=0, description="tau_norm, logit_adjustment: strength.")

    @model_validator(mode="after")
    def _keys_are_used(self):
        sgd = {"sampling", "class_weights", "start", "steps", "batch_size", "learning_rate", "weight_decay", "max_norm"}
        dfr = {"draws", "inverse_l1"}
        unused = {
            "retrain": {"tau", *dfr},
            "scale": {"tau", "max_norm", "start", *dfr},
            "tau_norm": {"images_per_class", *sgd, *dfr},
            "logit_adjustment": {"images_per_class", *sgd, *dfr},
            "dfr": {"tau", *sgd},
        }
        for key in sorted(unused[self.method]):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} has no effect on method {self.method}; leave it out")
        return self


class Recipe(Model):
    """A way to train: which images, stage 1, and perhaps stage 2."""

    data: Literal["real", "balanced", "subsampled"] = Field(
        description="Rows of the balanced manifest: the real ones; all; or, of the real ones, the same number of every "
        "class (and group), as many as the smallest has (SUBG)."
    )
    stage1: Stage1 = Field(Stage1(), description="Overrides of the top-level `training`.")
    stage1_of: Name | None = Field(
        None, description="Recipe whose data and stage-1 networks this one takes; null: its own."
    )
    stage2: Stage2 | None = Field(None, description="Fine-tuning of the last layer; null: none.")

    @model_validator(mode="after")
    def _synthetic_images_where_they_are_used(self):
        if self.stage1.synthetic_first and self.data != "balanced":
            raise ValueError(f"stage1.synthetic_first needs data: balanced; {self.data} has no synthetic image")
        return self

    @model_validator(mode="after")
    def _stage2_fits_the_head(self):
        if self.stage1.head == "cosine" and self.stage2 and self.stage2.method != "retrain":
            raise ValueError(
                f"stage2.method {self.stage2.method} needs head: linear; a cosine head has no norms or bias"
            )
        return self
