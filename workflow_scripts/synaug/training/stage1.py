"""Stage 1: train the whole network on real and synthetic images."""

import dataclasses
import logging

import pandas as pd
import torch

from synaug.config import Stage1
from synaug.networks.classifier import Classifier
from synaug.runtime.errors import UserError
from synaug.training.data import TrainingSet
from synaug.training.loop import Checkpoint, optimise
from synaug.training.losses import WorstGroups, class_weights, make_loss
from synaug.training.mixing import mix
from synaug.training.parallel import Process

log = logging.getLogger(__name__)
WARM_UP = 0.1  # of the steps of stage 1


def train_stage1(
    data: TrainingSet,
    classes: list[str],
    settings: Stage1,
    seed: int,
    checkpoint: Checkpoint | None = None,
    process: Process | None = None,
) -> tuple[Classifier, pd.DataFrame]:
    """Train a whole network. Returns it, and rows of the manifest `history`.

    process: this one of several that train it together; None: it is the only one. Each has its own `checkpoint`.
    The same seed on the same device, number of devices and of threads gives the same network, interrupted or not.
    Raises UserError if a class has no image, or the loss is not a number.
    """
    for label in set(range(len(classes))) - set(data.labels.unique().tolist()):
        raise UserError(
            f"class {classes[label]!r} has no usable training image; look at real.parquet and balanced.parquet"
        )
    if settings.jtt:
        data = _heavier_where_wrong(data, classes, settings, seed, process)
    torch.manual_seed(seed)
    device = data.images.device
    process = process or Process(str(device))
    rng = process.random(seed)
    _, channels, size, _ = data.images.shape
    model = Classifier(settings.backbone, settings.width, classes, size, channels, settings.head)
    if settings.pretrained:
        model.load_pretrained(settings.pretrained)
    else:
        model.normalise_by(data.sample())
    model.to(device, memory_format=torch.channels_last).train()
    network = process.wrap(model)
    torch.manual_seed(seed + process.rank)  # of dropout and RandAugment; it was the same above, for the first weights
    counts = torch.bincount(data.labels, minlength=len(classes)).float()
    loss_per_image = make_loss(settings.loss, counts)
    per_class = class_weights(settings.class_weights, counts)
    worst = WorstGroups(len(data.cell_names), settings.group_dro, device) if settings.group_dro else None
    own_weights = data.weights * torch.where(data.synthetic, settings.synthetic_weight, 1.0)

    def loss(positions: torch.Tensor, done: float) -> torch.Tensor:
        positions = process.share(positions)
        images = data.augmented(positions, settings, rng)
        labels, weights = data.labels[positions], own_weights[positions]
        if done >= settings.deferred:
            weights = weights * per_class[labels]
        if settings.mixup is None and settings.cutmix is None:
            losses = loss_per_image(network(images).float(), labels)
            if worst:
                return worst(weights * losses, data.cells[positions])
            return (weights * losses).sum() / weights.sum()
        images, partners, shares = mix(images, data.synthetic[positions], settings.mixup, settings.cutmix, rng)
        logits = network(images).float()
        own = shares * weights * loss_per_image(logits, labels)
        partner = (1 - shares) * weights[partners] * loss_per_image(logits, labels[partners])
        return (own + partner).sum() / (shares * weights + (1 - shares) * weights[partners]).sum()

    sampler = data.sampler(settings, settings, seed, rng, process)
    _, history = optimise(
        model,
        list(model.parameters()),
        settings,
        sampler,
        loss,
        rng,
        warm_up=WARM_UP,
        checkpoint=checkpoint,
        memory=worst.shares if worst else None,
    )
    model.eval()
    return model, history


def _heavier_where_wrong(
    data: TrainingSet, classes: list[str], settings: Stage1, seed: int, process: Process | None
) -> TrainingSet:
    """`data` with more weight on what a first, short training gets wrong (JTT, Liu et al. 2021)."""
    short = settings.model_copy(update={"steps": settings.jtt.steps, "jtt": None})
    first, _ = train_stage1(data, classes, short, seed, None, process)
    wrong = torch.empty(len(data), dtype=torch.bool, device=data.labels.device)
    with torch.inference_mode():
        for positions in torch.arange(len(data)).split(500):
            wrong[positions] = first(data.images[positions]).argmax(1) != data.labels[positions]
    log.info("the first network gets %d of %d images wrong", int(wrong.sum()), len(data))
    return dataclasses.replace(data, weights=torch.where(wrong, settings.jtt.weight, 1.0) * data.weights)
