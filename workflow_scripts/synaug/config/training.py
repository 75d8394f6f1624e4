"""Config blocks `training` (stage 1) and `recipes`: which images networks are trained on, and how."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from synaug.config.base import Block, Name

Pairing = Literal["random", "real_synthetic"]
Sampling = Literal["uniform", "class_balanced", "square_root", "group_balanced"]
# The backbone whose ImageNet weights come with a dependency of synaug, see synaug/networks/embedded.py.
EMBEDDED_BACKBONE = "timm/tf_efficientnet_lite0"
# Value of each augmentation that changes pixels, if it is off.
_NO_AUGMENTATION = {"shift": 0, "flip": False, "crop_area": 1.0, "randaugment": None, "cutmix": None}
ClassWeights = Literal["none", "inverse", "effective"]


class Mixup(Block):
    """Mixup (Zhang et al. 2018): images and labels are blended with those of a partner."""

    alpha: float = Field(gt=0, description="Both parameters of the Beta distribution of the mixing weight.")
    pairing: Pairing = Field(
        "random",
        description="Partner of an image. random: any image of the batch; real_synthetic: a synthetic image for a real "
        "one, and the reverse, which gives frequent classes more than their share of the loss.",
    )


class CutMix(Block):
    """CutMix (Yun et al. 2019): a rectangle of a partner is pasted into the image."""

    alpha: float = Field(
        gt=0, description="Both parameters of the Beta distribution of the share of the image that remains."
    )
    pairing: Pairing = Field("random", description="Partner of an image, as in mixup.")


class RandAugment(Block):
    """RandAugment (Cubuk et al. 2020), as in torchvision: random operations on each image."""

    operations: int = Field(2, ge=1, description="Operations per image, drawn from 14.")
    magnitude: int = Field(9, ge=0, le=30, description="Strength of the operations.")


class JTT(Block):
    """Just Train Twice (Liu et al. 2021): images that a first network gets wrong weigh more. It needs no groups."""

    steps: int = Field(ge=1, description="Optimiser steps of the first training.")
    weight: float = Field(
        gt=0, description="Weight, in the second training, of an image that the first network gets wrong."
    )


class LoRA(Block):
    """LoRA (Hu et al. 2022) on a transformer: small matrices are trained, and added to its weights at the end."""

    rank: int = Field(8, ge=1, description="Rank of the matrices that are added to the projections of the attention.")


class Loss(Block):
    """The loss of an image. Formulas and sources are in synaug/training/losses.py."""

    name: Literal["cross_entropy", "focal", "balanced_softmax", "logit_adjustment", "ldam"] = Field(
        "cross_entropy", description="Name of the loss. ldam needs `head: cosine`."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing; not for focal and ldam.")
    gamma: float = Field(1.0, ge=0, description="focal only: exponent of 1 - p, p being the probability of the class.")
    tau: float = Field(1.0, gt=0, description="logit_adjustment only: factor of the log prior.")
    margin: float = Field(0.5, gt=0, description="ldam only: margin of the smallest class.")

    @model_validator(mode="after")
    def _parameters_belong_to_the_loss(self):
        used = {"focal": {"gamma"}, "ldam": {"margin"}, "logit_adjustment": {"tau", "label_smoothing"}}
        unused = {"label_smoothing", "gamma", "tau", "margin"} - used.get(self.name, {"label_smoothing"})
        self._refuse_without_effect(sorted(unused), f"with name: {self.name}")
        return self


class Stage1(Block):
    """Training of the whole network."""

    backbone: str = Field(
        "resnet8",
        pattern=r"^(resnet8|resnet32|torchvision/\w+|timm/[\w.]+)$",
        description="The network: resnet8 (three residual blocks), resnet32 (the ResNet for CIFAR), "
        "torchvision/<name> or timm/<name>.",
    )
    width: int | None = Field(
        None,
        ge=4,
        description="resnet8, resnet32 only: channels of the first blocks; later blocks have 2 and 4 times as many; "
        "null: 32 for resnet8, 16 for resnet32.",
    )
    pretrained: bool | str = Field(
        False,
        description="torchvision, timm only: the first weights. true: those of the library, downloaded; embedded: "
        "ImageNet weights that are installed with synaug, for timm/tf_efficientnet_lite0 only; a path: those of a "
        "safetensors file; false: random.",
    )
    freeze: Literal["none", "backbone"] | Annotated[int, Field(ge=1)] = Field(
        "none",
        description="Part of a pretrained network that keeps its weights. none: nothing; backbone: everything but the "
        "last layer, whose input is computed once for each image and used by all recipes; a number: "
        "the first stages of a network of timm, of which the first is its stem. backbone needs images without "
        "augmentation: it sets shift to 0 and flip to false.",
    )
    head: Literal["linear", "cosine"] = Field(
        "linear",
        description="Last layer. cosine: normalised features and weights, times 30, as in LDAM.",
    )
    steps: int = Field(1000, ge=1, description="Optimiser steps. They do not depend on the number of images.")
    batch_size: int = Field(128, ge=2, description="Images per optimiser step.")
    learning_rate: float = Field(
        0.1,
        gt=0,
        description="Peak learning rate: linear warm-up in the first 10 % of the steps, then cosine to 0.",
    )
    lora: LoRA | None = Field(
        None,
        description="Pretrained transformers of timm only (vit_...): LoRA on the attention; the other weights before "
        "the last layer are frozen. null: off.",
    )
    backbone_rate: float = Field(
        1.0,
        gt=0,
        description="Learning rate of the network before its last layer, as a factor of learning_rate; 0.1 is usual "
        "for pretrained weights.",
    )
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty on all weights.")
    shift: int = Field(2, ge=0, description="Augmentation: largest random translation, in pixels.")
    flip: bool = Field(True, description="Augmentation: random horizontal flip.")
    crop_area: float = Field(
        1.0, gt=0, le=1, description="Augmentation: smallest share of the image that a random crop keeps; 1: no crop."
    )
    randaugment: RandAugment | None = Field(None, description="Augmentation: RandAugment; null: none.")
    mixup: Mixup | None = Field(None, description="Mixup; null: none.")
    cutmix: CutMix | None = Field(
        None, description="CutMix; null: none. With mixup as well, each batch uses one of the two."
    )
    loss: Loss = Loss()
    class_weights: ClassWeights = Field(
        "none",
        description="Weight of an image in the loss by the label mass n of its class: its number of images, if all "
        "are drawn equally often, weigh the same and are not mixed. inverse: 1 / n; effective: 1 / effective number "
        "(Cui et al. 2019).",
    )
    deferred: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the steps before class_weights take effect; 0.8 is deferred re-weighting (DRW).",
    )
    sampling: Sampling = Field(
        "uniform",
        description="How batches are drawn. uniform: each image with equal probability; class_balanced: each class "
        "with equal probability; square_root: classes in proportion to the square root of their size; "
        "group_balanced: each class in each group with equal probability.",
    )
    synthetic_weight: float = Field(
        1.0, gt=0, description="Weight of a synthetic image in the loss; a real image has weight 1."
    )
    synthetic_first: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the steps, at the start, that use synthetic images only; the later steps use real images "
        "only. 0: all steps use both.",
    )
    group_dro: float | None = Field(
        None,
        gt=0,
        description="GroupDRO: step size by which classes in groups with a high loss gain weight; null: off.",
    )
    jtt: JTT | None = Field(None, description="Just Train Twice; null: off.")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="SGD with Nesterov momentum 0.9, or AdamW.")
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = Field(
        "float32",
        description="Floating-point type of the network's arithmetic. The weights are always float32. tf32: float32, "
        "but GPUs round the factors of products to 10 bits of mantissa, which is faster; on a CPU the same as float32. "
        "Stage 2 always uses float32; on a GPU it uses TF32 too, unless this is float32.",
    )
    deterministic: bool = Field(
        False,
        description="GPUs use only algorithms that give the same bits in every run, which is slower. On a CPU the same "
        "seed always gives the same network, on a GPU only with true.",
    )
    devices: int = Field(
        1, ge=1, description="GPUs that train one network together; each processes a share of every batch."
    )
    sync_batch_norm: bool = Field(
        False,
        description="Several devices only: batch normalisation. false: each GPU normalises its share of a batch by the "
        "statistics of this share, and the network keeps the running statistics of the first GPU; true: by the "
        "statistics of the whole batch (torch.nn.SyncBatchNorm), as one GPU does, which takes longer. true needs "
        "NVIDIA GPUs.",
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Largest decay per step of a moving average of the weights; the first steps decay faster. The "
        "average is the result; null: the last weights are the result.",
    )

    @model_validator(mode="before")
    @classmethod
    def _a_frozen_backbone_gets_no_augmentation(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("freeze") == "backbone":
            return {"shift": 0, "flip": False} | values
        return values

    @model_validator(mode="after")
    def _keys_fit_each_other(self):
        library = "/" in self.backbone
        if self.group_dro is not None and (self.mixup or self.cutmix):
            raise ValueError("group_dro excludes mixup and cutmix, since a mixed image has no single group; remove one")
        if self.group_dro is not None:  # which takes the mean of each class in each group
            self._refuse_without_effect(["class_weights"], "with group_dro")
        if self.class_weights == "none":
            self._refuse_without_effect(["deferred"], "with class_weights: none")
        if library:
            self._refuse_without_effect(["width"], f"with backbone: {self.backbone}")
        if self.pretrained and not library:
            raise ValueError(
                f"pretrained is for torchvision/ and timm/, and {self.backbone} has no such weights; leave it out"
            )
        if self.pretrained == "embedded" and self.backbone != EMBEDDED_BACKBONE:
            raise ValueError(
                f"pretrained: embedded is for backbone: {EMBEDDED_BACKBONE}, not {self.backbone}; set true for the "
                "weights of this backbone"
            )
        if self.freeze != "none" and not self.pretrained:
            raise ValueError(
                f"freeze: {self.freeze} needs pretrained weights, since random ones learn nothing; set pretrained"
            )
        if isinstance(self.freeze, int) and not self.backbone.startswith("timm/"):
            raise ValueError(
                f"freeze: {self.freeze} needs a network of timm, since {self.backbone} has no numbered stages; choose "
                "another backbone, or set freeze to none or backbone"
            )
        if self.lora and (not self.pretrained or not self.backbone.startswith("timm/") or self.freeze != "none"):
            raise ValueError("lora needs a pretrained network of timm, and freeze: none; change them, or leave it out")
        if self.freeze == "backbone":
            self._refuse_without_effect(["backbone_rate"], "with freeze: backbone")
            for key, off in _NO_AUGMENTATION.items():
                if getattr(self, key) != off:
                    raise ValueError(
                        f"{key} has no effect with freeze: backbone, since the features of an image are computed once; "
                        "leave it out"
                    )
        if self.devices == 1:
            self._refuse_without_effect(["sync_batch_norm"], "with devices: 1")
        if self.batch_size < 2 * self.devices and self.devices > 1:  # batch normalisation needs two images
            raise ValueError(
                f"devices: {self.devices} devices share each batch of {self.batch_size} images, and some get fewer "
                f"than two; set batch_size to at least {2 * self.devices}"
            )
        if self.loss.name == "ldam" and self.head != "cosine":
            raise ValueError(
                "loss ldam needs head: cosine, since its margins are margins of cosines; set it, or another loss"
            )
        return self


class Stage2(Block):
    """Training or scaling of the last layer on real images. The rest of the network is frozen."""

    method: Literal["retrain", "scale", "tau_norm", "logit_adjustment", "dfr"] = Field(
        "retrain",
        description="retrain: train the last layer; scale: train one factor per class (LWS); dfr: sparse logistic "
        "regression on several draws of images_per_class images, averaged; tau_norm, without training: divide the "
        "weights of a class by their norm to the power of tau; logit_adjustment, without training: subtract tau "
        "times the log prior from the logits.",
    )
    split: str | None = Field(
        None,
        description="retrain, scale, dfr only: the split whose real images are used, which is the training split or "
        "dataset.validation_split; null: the training split.",
    )
    draws: int = Field(10, ge=1, description="dfr only: number of draws that are averaged.")
    inverse_l1: float = Field(
        1.0, gt=0, description="dfr only: inverse of the L1 penalty; smaller values leave fewer weights."
    )
    images_per_class: Annotated[int, Field(ge=1)] | Literal["all"] | None = Field(
        None,
        description="retrain, scale, dfr only: real images of each class, or class in a group, that are used; null: as "
        "many as the smallest one has; all: all of them. A class that lacks a group gets more images of its other "
        "groups, so that all classes have equally many.",
    )
    sampling: Sampling = Field("uniform", description="As in stage 1; for images_per_class: all only.")
    class_weights: ClassWeights = Field("none", description="As in stage 1; for images_per_class: all only.")
    start: Literal["warm", "fresh"] = Field(
        "warm", description="retrain only: first weights of the last layer. warm: those of stage 1; fresh: random."
    )
    # The learning rate of the last step is 0: a single step would train nothing.
    steps: int = Field(100, ge=2, description="retrain, scale only: optimiser steps.")
    batch_size: int = Field(64, ge=1, description="retrain, scale only: images per optimiser step.")
    learning_rate: float = Field(
        0.001, gt=0, description="retrain, scale only: peak learning rate of SGD with momentum; cosine to 0."
    )
    weight_decay: float = Field(0.0, ge=0, description="retrain, scale only: L2 penalty on the last layer.")
    max_norm: float | None = Field(
        None,
        gt=0,
        description="retrain only: the weights of a class are scaled down to this norm after each step (MaxNorm); "
        "null: off.",
    )
    tau: float = Field(1.0, gt=0, description="tau_norm, logit_adjustment only: strength.")

    @model_validator(mode="after")
    def _keys_belong_to_the_method(self):
        sgd = {"sampling", "class_weights", "start", "steps", "batch_size", "learning_rate", "weight_decay", "max_norm"}
        dfr = {"draws", "inverse_l1"}
        unused = {
            "retrain": {"tau", *dfr},
            "scale": {"tau", "max_norm", "start", *dfr},
            "tau_norm": {"images_per_class", "split", *sgd, *dfr},
            "logit_adjustment": {"images_per_class", "split", *sgd, *dfr},
            "dfr": {"tau", *sgd},
        }
        self._refuse_without_effect(sorted(unused[self.method]), f"with method: {self.method}")
        if self.images_per_class != "all":  # all classes have equally many
            for key, off in (("class_weights", "none"), ("sampling", "uniform")):
                if getattr(self, key) != off:
                    raise ValueError(f"{key}: is for images_per_class: all; leave it out")
        return self


class Fill(Block):
    """Which of the synthetic images of a class (with groups: of a class in a group) a recipe is trained on.

    Smaller amounts are subsets of larger ones: the first images in the order of the plan.
    """

    name: Name | None = Field(None, description="The one of `fills` that is used; null: there is only one.")
    share: float = Field(1.0, gt=0, le=1, description="Share of the synthetic images of each class.")
    per_real: float | None = Field(
        None, gt=0, description="At most this many synthetic images for each real image of the class; null: no limit."
    )


class Recipe(Block):
    """A way to train: the images, stage 1, and optionally stage 2."""

    data: Literal["real", "balanced", "subsampled"] = Field(
        description="Images from balanced.parquet. real: all real images; balanced: real and synthetic images; "
        "subsampled: the same number of real images of each class (and group), as many as the smallest has (SUBG)."
    )
    fill: Fill | None = Field(
        None, description="data: balanced only: a part of the synthetic images; null: all of them."
    )
    stage1: Stage1 = Field(Stage1(), description="Keys of stage 1 that differ from the block `training`.")
    stage1_of: Name | None = Field(
        None,
        description="Recipe whose images and stage-1 networks are used, in place of `data`, `fill` and `stage1`; null: "
        "none.",
    )
    stage2: Stage2 | None = Field(None, description="Training of the last layer; null: none.")

    @model_validator(mode="after")
    def _stages_fit_each_other(self):
        if self.fill and self.data != "balanced":
            raise ValueError(
                f"fill needs data: balanced, since data: {self.data} has no synthetic images; leave fill out"
            )
        if self.stage1.synthetic_first and self.data != "balanced":
            raise ValueError(
                f"stage1.synthetic_first needs data: balanced, since data: {self.data} has no synthetic images; "
                "leave it out"
            )
        if self.stage1.jtt and self.stage2 and self.stage2.method == "logit_adjustment":
            raise ValueError(
                "stage2.method: logit_adjustment excludes stage1.jtt, which changes the class prior; leave one out"
            )
        if self.stage1.head == "cosine" and self.stage2 and self.stage2.method != "retrain":
            raise ValueError(
                f"stage2.method: {self.stage2.method} needs head: linear, since a cosine head has no norms and no "
                "bias; change one of them"
            )
        return self
