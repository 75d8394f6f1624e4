"""What `synaug init` decides: network, generator and amounts, by the images and by the machine."""

from dataclasses import replace
from importlib.util import find_spec

import pandas as pd

from synaug.commands.init_budget import (
    CPU_BUDGET,
    GPU_BUDGET,
    fill_target,
    fit_to_budget,
    missing,
    without_synthetic_images,
)
from synaug.commands.init_estimate import Settings, feature_seconds
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
ADAPTATION_STEPS = 1500  # of the public model, with 8 images each: 12,000 image views


def choose_settings(detected: DetectedDataset, machine: Machine, budget: float | None = None) -> Settings:
    """Decide for these images on this machine. The hub is asked only if there is a GPU for its models.

    budget: minutes from the start to the report, as estimated; None: 20, or 180 with a GPU that is large enough. If
    `total_minutes` is above it, no smaller settings make sense.
    """
    counts = training_counts(detected)
    images = int(counts.sum())
    side = median_side(detected.rows)
    gpu = machine.gpu if machine.gpu_gigabytes >= GPU_GIGABYTES else None
    cached = gpu is not None and has_model(PUBLIC_MODEL, PUBLIC_REVISION)
    hub = gpu is not None and hub_is_reachable()
    public_model = cached or hub

    if gpu and hub:
        backbone, frozen, size, training_steps = GPU_BACKBONE, False, GPU_SIZE, 1500
        network = (
            f"Network: {backbone}, pretrained on ImageNet, trained in full because there is a GPU ({gpu}); its last "
            "layer learns ten times as fast as the rest."
        )
    elif gpu:
        backbone, frozen, size, training_steps = EMBEDDED_BACKBONE, False, GPU_SIZE, 1500
        network = (
            f"Network: EfficientNet-Lite0, whose ImageNet weights are installed with synaug, because the hub cannot be "
            f"reached; trained in full because there is a GPU ({gpu})."
        )
    elif side > SIZES[0]:
        backbone, frozen, size, training_steps = EMBEDDED_BACKBONE, True, FROZEN_SIZES[0], 600
        network = (
            "Network: EfficientNet-Lite0 with its ImageNet weights, of which only the last layer is trained, because "
            "there is no GPU with 8 GB or more."
        )
    else:
        # A network that starts from nothing needs more steps. They are worth more than a better generator.
        backbone, frozen, size, training_steps = None, False, SIZES[0], 1500
        network = (
            f"Network: a small one, trained from scratch, because the images have at most {SIZES[0]} pixels and there "
            "is no GPU with 8 GB or more."
        )

    from_scratch = backbone is None
    generator_size = SIZES[0]
    autoencoder_steps, denoiser_steps = (400, 600) if from_scratch else (700, 1100)
    if gpu and not public_model:
        generator_size = max((size for size in SIZES if size <= side), default=SIZES[0])
        autoencoder_steps, denoiser_steps = 4000, 20000
    # As many synthetic images as real ones at most: in docs/results.md, a part of the fill was as good as all of it.
    target = fill_target(counts, min(MAX_PUBLIC_IMAGES if public_model else MAX_SMALL_IMAGES, images))
    fills = FILLS if frozen and every_cell_has_training_images(detected) else ()  # one is made from them
    settings = Settings(
        gpu=gpu,
        cores=machine.cores,
        public_model=public_model,
        adaptation_steps=ADAPTATION_STEPS if public_model and find_spec("peft") else 0,
        backbone=backbone,
        frozen=frozen,
        image_size=size,
        generator_size=generator_size,
        autoencoder_steps=autoencoder_steps,
        denoiser_steps=denoiser_steps,
        training_steps=training_steps,
        screening_steps=300 if from_scratch else 100,  # of the last layer of a pretrained network
        batch_size=max(2, min(64, 1 << images.bit_length() - 1)),  # a power of two
        seeds=2 if from_scratch else 3,
        target=target,
        oversample=1.5 if public_model else 2.0,
        fills=fills,
        recipes=tuple(portfolio(fills)),
        halving="validation_split" in detected.dataset,
        find_faults=detected.searched,
        usable_images=int(detected.rows["usable"].sum()),
        training_images=images,
        synthetic_images=missing(counts, target),
        budget=budget or (GPU_BUDGET if gpu else CPU_BUDGET),
    )
    if frozen and sum(feature_seconds(settings)) > 60 * FEATURE_MINUTES:
        settings = replace(settings, image_size=FROZEN_SIZES[1])
    uneven = settings.synthetic_images > 0
    settings = fit_to_budget(settings if uneven else without_synthetic_images(settings), counts)
    return replace(settings, reasons=(network, *_reasons_of_images(settings, uneven, cached)))


def _reasons_of_images(settings: Settings, uneven: bool, cached: bool) -> list[str]:
    """Why the synthetic images are these, one sentence each. uneven: whether a class is smaller than another.

    cached: whether the public model is on this machine.
    """
    if not settings.synthetic_images:
        why = "the budget leaves no time for one" if uneven else "no class is smaller than another"
        return [f"Generator: none, and so no synthetic images, because {why}."]
    reasons = []
    if settings.public_model:
        reasons.append(
            f"Generator: Stable Diffusion 1.5, {'from the local cache' if cached else 'downloaded from the hub'}."
        )
        if settings.adaptation_steps:
            reasons.append(
                f"Adaptation: {settings.adaptation_steps:,} steps adapt the model to your training images, because it "
                "may not know your classes."
            )
        elif not find_spec("peft"):
            reasons.append(
                "An adapter that is trained on your images may help if your classes are special: install the package "
                "peft (pip install 'synaug[lora]') and call synaug init again, to adapt the model."
            )
    else:
        why = "there is no such GPU"
        if settings.gpu:
            why = "the hub cannot be reached, and no public model is in its local cache"
        size = settings.generator_size
        reasons.append(f"Generator: a small one of {size} pixels, trained on your images, because {why}.")
        if settings.training_images < FEW_IMAGES:
            reasons.append(
                f"{settings.training_images:,} training images are too few for such a generator: expect that its "
                "images are not chosen. A public model on a GPU is the way to useful ones."
            )
    reasons.append(
        f"Fill: every class to {settings.target:,} images with {settings.synthetic_images:,} synthetic ones, not more "
        "than there are real ones."
    )
    if settings.fills:
        reasons.append(
            "Two sets of such images are compared: images from prompts, and variations of real images. Classes whose "
            "images are not recognised get none."
        )
    return reasons


def training_counts(detected: DetectedDataset) -> pd.Series:
    """Usable training images per class, or per class and group."""
    train = detected.dataset.get("train_split", "train")
    rows = detected.rows[(detected.rows["split"] == train) & detected.rows["usable"]]
    if not detected.dataset.get("group_columns"):
        return rows.groupby("label_name").size()
    # Cells without an image are filled too.
    return rows.groupby(["label_name", "group"]).size().unstack(fill_value=0).stack()


def every_cell_has_training_images(detected: DetectedDataset) -> bool:
    """Whether every class has a usable training image in every group, also in groups of held-out images alone."""
    counts, usable = training_counts(detected), detected.rows[detected.rows["usable"]]
    if not detected.dataset.get("group_columns"):
        return True
    return len(counts) == usable["label_name"].nunique() * usable["group"].nunique() and bool((counts > 0).all())


def median_side(rows: pd.DataFrame) -> float:
    """Median of the shorter sides of the usable images, pixels."""
    return rows.loc[rows["usable"], ["width", "height"]].min(axis=1).median()
