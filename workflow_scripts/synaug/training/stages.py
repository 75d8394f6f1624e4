"""The two stages: the whole network, then its last layer on real images."""

import copy

import numpy as np
import pandas as pd
import torch

from synaug.config import Loss, Stage1, Stage2
from synaug.errors import UserError
from synaug.training.backbones import Classifier
from synaug.training.data import TrainingSet
from synaug.training.loop import Checkpoint, optimise
from synaug.training.losses import class_weights, make_loss
from synaug.training.mixing import mix
from synaug.training.parallel import Process

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
    own_weights = data.weights * torch.where(data.synthetic, settings.synthetic_weight, 1.0)

    def loss(positions: torch.Tensor, done: float) -> torch.Tensor:
        positions = process.share(positions)
        images = data.augmented(positions, settings, rng)
        labels, weights = data.labels[positions], own_weights[positions]
        if done >= settings.deferred:
            weights = weights * per_class[labels]
        if settings.mixup is None and settings.cutmix is None:
            return (weights * loss_per_image(network(images).float(), labels)).sum() / weights.sum()
        images, partners, shares = mix(images, data.synthetic[positions], settings.mixup, settings.cutmix, rng)
        logits = network(images).float()
        own = shares * weights * loss_per_image(logits, labels)
        partner = (1 - shares) * weights[partners] * loss_per_image(logits, labels[partners])
        return (own + partner).sum() / (shares * weights + (1 - shares) * weights[partners]).sum()

    sampler = data.sampler(settings, settings, seed, rng, process)
    model, history = optimise(
        model, list(model.parameters()), settings, sampler, loss, rng, warm_up=WARM_UP, checkpoint=checkpoint
    )
    return model.eval(), history


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
        return model, pd.DataFrame(columns=["step", "epoch", "loss", "learning_rate"], dtype=float)  # no step was taken
    classes = model.card["classes"]
    rng = np.random.default_rng(seed)
    # Of a data set with groups, as many of every class in every group that has any.
    cells, names = (data.labels, classes) if data.cells is None else (data.cells, data.cell_names)
    data = data.subset(choose_few(cells.cpu().numpy(), names, settings.images_per_class, rng))
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


def choose_few(labels: np.ndarray, classes: list[str], count: int | str | None, rng: np.random.Generator) -> np.ndarray:
    """Positions of `count` images of every class, drawn by `rng` (None: as many as the smallest class has; all: all).

    labels: int, N. Raises UserError if a class has fewer.
    """
    if count == "all":
        return np.arange(len(labels))
    sizes = np.bincount(labels, minlength=len(classes))
    smallest = int(sizes.argmin())
    count = int(sizes[smallest]) if count is None else count
    if not 0 < count <= sizes[smallest]:
        raise UserError(
            f"stage2.images_per_class: {count} real images of every class are wanted, but class {classes[smallest]!r} "
            f"has {sizes[smallest]}; lower it, or set null for as many as the smallest class has"
        )
    return np.concatenate([rng.choice(np.flatnonzero(labels == c), count, replace=False) for c in range(len(classes))])
