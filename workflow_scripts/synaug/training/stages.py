"""The two stages: the whole network, then its last layer on real images."""

import copy
import dataclasses
import logging

import numpy as np
import pandas as pd
import torch

from synaug.config import Loss, Stage1, Stage2
from synaug.errors import UserError
from synaug.training.backbones import Classifier
from synaug.training.data import TrainingSet
from synaug.training.loop import Checkpoint, optimise
from synaug.training.losses import WorstGroups, class_weights, make_loss
from synaug.training.mixing import mix
from synaug.training.parallel import Process
from synaug.training.sampling import choose_few
from synaug.training.sparse_head import sparse_head

log = logging.getLogger(__name__)
NO_STEPS = pd.DataFrame(columns=["step", "epoch", "loss", "learning_rate"], dtype=float)
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


def finetune_stage2(
    model: Classifier, data: TrainingSet, settings: Stage2, training: Stage1, seed: int, counts: np.ndarray
) -> tuple[Classifier, pd.DataFrame]:
    """Re-train or re-scale the last layer; returns a new network and rows of the manifest `history`.

    data: real images only (others raise ValueError). Everything before the last layer stays as it is, the statistics
    of batch normalisation too. training: the stage 1 before it, for its augmentation. counts: images per class that it
    was trained on, int, C.
    Raises UserError if a class has fewer images than are asked for.
    """
    if data.synthetic.any():
        raise ValueError("stage 2 takes real images only")
    model = copy.deepcopy(model).to(data.images.device).eval()
    if settings.method in ("tau_norm", "logit_adjustment"):
        _rescale(model, settings, counts)
        return model, NO_STEPS
    classes = model.card["classes"]
    rng = np.random.default_rng(seed)
    if settings.method == "dfr":
        return sparse_head(model, data, settings, seed), NO_STEPS
    data = data.subset(choose_few(*data.cells_or_classes(classes), settings.images_per_class, rng))
    torch.manual_seed(seed)
    model.requires_grad_(False)
    if settings.start == "fresh":
        model.head.reset_parameters()
    scales = torch.ones(len(classes), device=data.images.device)
    trained = [scales] if settings.method == "scale" else list(model.head.parameters())
    for parameter in trained:
        parameter.requires_grad_(True)
    loss_per_image = make_loss(Loss(), scales)
    per_class = class_weights(settings.class_weights, torch.bincount(data.labels, minlength=len(classes)).float())

    def loss(positions: torch.Tensor, done: float) -> torch.Tensor:
        with torch.no_grad():
            features = model.features(data.augmented(positions, training, rng))
        logits, labels = model.head(features), data.labels[positions]
        if settings.method == "scale":
            logits = logits * scales
        weights = per_class[labels]
        return (weights * loss_per_image(logits, labels)).sum() / weights.sum()

    @torch.no_grad()
    def clip() -> None:
        norms = model.head.weight.norm(dim=1, keepdim=True)
        model.head.weight.mul_((settings.max_norm / norms).clamp_max(1))

    sampler = data.sampler(settings, training, seed, rng)
    _, history = optimise(model, trained, settings, sampler, loss, rng, after_step=clip if settings.max_norm else None)
    if settings.method == "scale":
        with torch.no_grad():
            model.head.weight.mul_(scales[:, None])
            model.head.bias.mul_(scales)
    return model.requires_grad_(True), history


@torch.no_grad()
def _rescale(model: Classifier, settings: Stage2, counts: np.ndarray) -> None:
    """Change the last layer without training.

    tau_norm (Kang et al. 2020): w_j / |w_j|^tau, and no bias. logit_adjustment (Menon et al. 2021, eq. 9): the
    bias less tau log pi_j, pi the share of class j among the images of stage 1.
    """
    if settings.method == "tau_norm":
        model.head.weight.div_(model.head.weight.norm(dim=1, keepdim=True) ** settings.tau)
        model.head.bias.zero_()
    else:
        prior = torch.from_numpy(counts / counts.sum()).to(model.head.bias)
        model.head.bias.sub_(settings.tau * prior.log())
