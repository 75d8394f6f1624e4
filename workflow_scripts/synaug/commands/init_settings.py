"""What `synaug init` decides: network, generator and amounts, by the images and by the machine."""

from dataclasses import dataclass

import pandas as pd

from synaug.config import EMBEDDED_BACKBONE
from synaug.config.portfolio import portfolio
from synaug.datasets.detect import DetectedDataset
from synaug.runtime.machine import Machine, has_model, hub_is_reachable

# The public model, for a GPU with so much memory.
PUBLIC_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"
PUBLIC_REVISION = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
GPU_GIGABYTES = 7.5  # 10^9 bytes; a GPU that is sold with 8 GB may report a little less
# Networks, and the sides of their images in pixels. The embedded one is frozen on a CPU. It is better at its own size
# than at half of it, which is for more images than it can read in FEATURE_MINUTES.
GPU_BACKBONE, GPU_SIZE = "timm/resnet50.a1_in1k", 224
FROZEN_SIZES = (224, 112)
FEATURE_MINUTES = 6.0
SIZES = (32, 64)  # sides that the small generator can have, in pixels; without a GPU the first
# Most images that are to pass the screening: about ten minutes of two cores, or an hour of a GPU with the public model.
MAX_SMALL_IMAGES, MAX_PUBLIC_IMAGES = 20_000, 2_000
# Where a network takes seconds: two fills to choose from, images from prompts and variations of real images.
FILLS = ("from_text", "from_real")
# Training images below which a generator that is trained on them makes little more than blurs or copies.
FEW_IMAGES = 300
# Seconds, for the estimate of the run time. Two cores without a GPU: an optimiser step of the two parts of the small
# generator and one of its images, all at 32 pixels; a step of a network from scratch at 32 pixels, and of the screening
# classifier if it is not frozen, relative to 32 x 32 pixels; the features of an image, relative to 112 x 112 pixels;
# the start of a job; a constant.
CPU_SECONDS = {
    "autoencoder": 0.15, "denoiser": 0.45, "image": 0.016, "step": 0.04, "screening": 0.15, "features": 0.011,
    "job": 3.0, "constant": 90,
}  # fmt: skip
# The same on a GPU with 24 GB. It has not been measured: 20 steps with guidance at 512 pixels, 64 images of 224 pixels.
GPU_SECONDS = {
    "autoencoder": 0.03, "denoiser": 0.03, "image": 0.005, "public_image": 1.2, "step": 0.12, "screening": 0.002,
    "features": 0.0005, "job": 6.0, "constant": 90,
}  # fmt: skip
ADAPTATION_MINUTES = 40  # 1,500 steps of 8 images on such a GPU


@dataclass(frozen=True)
class Settings:
    """The decisions.

    gpu: name of a GPU that is large enough, or None. public_model: whether the public model makes the images; otherwise
    the small generator is trained. backbone: None: the small network from scratch. target: images of every class after
    filling. oversample: images generated per image wanted. fills: names; empty: there is one, without a name.
    training_images, synthetic_images: numbers, of one fill. reasons: of the decisions, one sentence each. minutes: part
    of the run -> estimated minutes.
    """

    gpu: str | None
    public_model: bool
    backbone: str | None
    frozen: bool
    image_size: int
    generator_size: int
    autoencoder_steps: int
    denoiser_steps: int
    training_steps: int
    screening_steps: int
    batch_size: int
    seeds: int
    target: int
    oversample: float
    fills: tuple[str, ...]
    training_images: int
    synthetic_images: int
    reasons: tuple[str, ...]
    minutes: dict[str, float]

    @property
    def total_minutes(self) -> float:
        """Estimated minutes from the start to the report."""
        return sum(self.minutes.values())


def choose_settings(detected: DetectedDataset, machine: Machine) -> Settings:
    """Decide for these images on this machine. The hub is asked only if there is a GPU for its models."""
    counts = training_counts(detected)
    images = int(counts.sum())
    side = median_side(detected.rows)
    gpu = machine.gpu if machine.gpu_gigabytes >= GPU_GIGABYTES else None
    cached = gpu is not None and has_model(PUBLIC_MODEL, PUBLIC_REVISION)
    hub = gpu is not None and hub_is_reachable()
    public_model = cached or hub
    reasons = []

    if gpu and hub:
        backbone, frozen, size, training_steps = GPU_BACKBONE, False, GPU_SIZE, 1500
        reasons.append(
            f"Network: {backbone}, pretrained on ImageNet, trained in full because there is a GPU ({gpu}); its last "
            "layer learns ten times as fast as the rest."
        )
    elif gpu:
        backbone, frozen, size, training_steps = EMBEDDED_BACKBONE, False, GPU_SIZE, 1500
        reasons.append(
            f"Network: EfficientNet-Lite0, whose ImageNet weights are installed with synaug, because the hub cannot be "
            f"reached; trained in full because there is a GPU ({gpu})."
        )
    elif side > SIZES[0]:
        backbone, frozen, size, training_steps = EMBEDDED_BACKBONE, True, FROZEN_SIZES[0], 600
        reasons.append(
            "Network: EfficientNet-Lite0 with its ImageNet weights, of which only the last layer is trained, because "
            "there is no GPU with 8 GB or more."
        )
    else:
        # A network that starts from nothing needs more steps. They are worth more than a better generator.
        backbone, frozen, size, training_steps = None, False, SIZES[0], 1500
        reasons.append(
            f"Network: a small one, trained from scratch, because the images have at most {SIZES[0]} pixels and there "
            "is no GPU with 8 GB or more."
        )

    from_scratch = backbone is None
    generator_size = SIZES[0]
    autoencoder_steps, denoiser_steps = (400, 600) if from_scratch else (700, 1100)
    if public_model:
        reasons.append(
            f"Generator: Stable Diffusion 1.5, {'from the local cache' if cached else 'downloaded from the hub'}. An "
            "adapter that is trained on your images may help if your classes are special."
        )
    else:
        if gpu:
            generator_size = max((size for size in SIZES if size <= side), default=SIZES[0])
            autoencoder_steps, denoiser_steps = 4000, 20000
        why = "the hub cannot be reached, and no public model is in its local cache" if gpu else "there is no such GPU"
        reasons.append(f"Generator: a small one of {generator_size} pixels, trained on your images, because {why}.")
        if images < FEW_IMAGES:
            reasons.append(
                f"{images:,} training images are too few for such a generator: expect that its images are not chosen. "
                "A public model on a GPU is the way to useful ones."
            )
    # As many synthetic images as real ones at most: in docs/results.md, a part of the fill was as good as all of it.
    target = fill_target(counts, min(MAX_PUBLIC_IMAGES if public_model else MAX_SMALL_IMAGES, images))
    synthetic = int((target - counts).clip(lower=0).sum())
    reasons.append(
        f"Fill: every class to {target:,} images with {synthetic:,} synthetic ones, not more than there are real ones."
    )
    usable, oversample = int(detected.rows["usable"].sum()), 1.5 if public_model else 2.0
    fills = FILLS if frozen else ()
    if frozen:
        reasons.append(
            "Two sets of such images are compared: images from prompts, and variations of real images. Classes whose "
            "images are not recognised get none."
        )
        read = _images_read(usable, images, len(FILLS) * synthetic, oversample)
        if read * _feature_seconds(CPU_SECONDS, size) > 60 * FEATURE_MINUTES:
            size = FROZEN_SIZES[1]
    settings = Settings(
        gpu=gpu,
        public_model=public_model,
        backbone=backbone,
        frozen=frozen,
        image_size=size,
        generator_size=generator_size,
        autoencoder_steps=autoencoder_steps,
        denoiser_steps=denoiser_steps,
        training_steps=training_steps,
        screening_steps=100 if frozen else 300,
        batch_size=max(2, min(64, 1 << images.bit_length() - 1)),  # a power of two
        seeds=2 if from_scratch else 3,
        target=target,
        oversample=oversample,
        fills=fills,
        training_images=images,
        synthetic_images=synthetic,
        reasons=tuple(reasons),
        minutes={},
    )
    settings.minutes.update(_minutes(settings, usable, "validation_split" in detected.dataset))
    return settings


def training_counts(detected: DetectedDataset) -> pd.Series:
    """Usable training images per class, or per class and group."""
    train = detected.dataset.get("train_split", "train")
    rows = detected.rows[(detected.rows["split"] == train) & detected.rows["usable"]]
    if not detected.dataset.get("group_columns"):
        return rows.groupby("label_name").size()
    # Cells without an image are filled too.
    return rows.groupby(["label_name", "group"]).size().unstack(fill_value=0).stack()


def median_side(rows: pd.DataFrame) -> float:
    """Median of the shorter sides of the usable images, pixels."""
    return rows.loc[rows["usable"], ["width", "height"]].min(axis=1).median()


def fill_target(counts: pd.Series, limit: int) -> int:
    """The number of images to which every class is filled: that of the largest class, or less.

    It is the largest number for which at most `limit` images are missing. counts: real images per class.
    """
    low, high = 1, int(counts.max())
    while low < high:
        middle = (low + high + 1) // 2
        fits = (middle - counts).clip(lower=0).sum() <= limit
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def _images_read(usable: int, training: int, synthetic: int, oversample: float) -> float:
    """How many images a frozen network reads. usable, training: real images. synthetic: kept images of all fills.

    The screening reads the training images, all real ones and all generated ones, and the training all that it uses.
    """
    return training + 2 * usable + (oversample + 1) * synthetic


def _feature_seconds(seconds: dict[str, float], size: int) -> float:
    """Estimate for the features of one image of this size."""
    return seconds["features"] * (size / 112) ** 2


def _minutes(settings: Settings, usable: int, validation: bool) -> dict[str, float]:
    """Part of the run -> rough estimate of its minutes.

    usable: images of all splits. validation: whether there are validation images, by which a recipe is chosen.
    """
    seconds = GPU_SECONDS if settings.gpu else CPU_SECONDS
    synthetic = settings.synthetic_images * max(1, len(settings.fills))
    generated = synthetic * settings.oversample
    area = (settings.generator_size / 32) ** 2
    generator = 0.0
    if not settings.public_model:
        generator = seconds["autoencoder"] * settings.autoencoder_steps + seconds["denoiser"] * settings.denoiser_steps
    image = seconds["public_image"] if settings.public_model else area * seconds["image"]
    left = trained = len(portfolio(settings.fills))
    for _ in range(1, settings.seeds):
        # The better half, but at least the baseline, and the best ones with and without synthetic images.
        left = max(3, (left + 1) // 2) if validation else left
        trained += left
    # Every network is trained by one core: two at a time. Last, the chosen recipe is trained again.
    jobs = 2 * (trained + settings.seeds)
    networks = seconds["job"] * jobs
    screening = 0.0
    if settings.frozen:
        read = _images_read(usable, settings.training_images, synthetic, settings.oversample)
        networks += read * _feature_seconds(seconds, settings.image_size)
    else:
        screening = seconds["screening"] * settings.screening_steps * (settings.image_size / 32) ** 2
        networks += seconds["step"] * settings.training_steps * jobs / 2 / (1 if settings.gpu else 2)
    return {
        "generator": area * generator / 60,
        "synthetic images": (image * generated + screening) / 60,
        "networks": networks / 60,
        "the rest": seconds["constant"] / 60,
    }
