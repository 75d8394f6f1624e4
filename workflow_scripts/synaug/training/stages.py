"""The two stages: the whole network, then its last layer on a few real images."""

import copy
import logging
import math
import time

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from synaug.config import Stage1, Stage2
from synaug.errors import UserError
from synaug.training.backbones import Classifier
from synaug.training.data import TrainingSet, augment, batches
from synaug.training.mixing import mixup

log = logging.getLogger(__name__)
WARM_UP = 0.1  # of the steps of stage 1
MOMENTUM = 0.9
LOG_EVERY = 50  # steps


def train_stage1(data: TrainingSet, classes: list[str], settings: Stage1, seed: int) -> tuple[Classifier, pd.DataFrame]:
    """Train a whole network. Returns it, and rows of the manifest `history`.

    The same seed on the same device and number of threads gives the same network.
    Raises UserError if a class has no image, or the loss is not a number.
    """
    for label in set(range(len(classes))) - set(data.labels.unique().tolist()):
        raise UserError(f"class {classes[label]!r} has no training image; look at balanced.parquet")
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    _, channels, size, _ = data.images.shape
    device = data.images.device
    model = Classifier(settings.backbone, settings.width, classes, size, channels)
    model.normalise_by(data.images)
    model.to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(
        model.parameters(), settings.learning_rate, MOMENTUM, weight_decay=settings.weight_decay, nesterov=True
    )

    def loss(positions: torch.Tensor) -> torch.Tensor:
        images = augment(data.images[positions], settings.shift, settings.flip, rng)
        labels, weights = data.labels[positions], data.weights[positions]
        if settings.mixup is None:
            return (weights * F.cross_entropy(model(images), labels, reduction="none")).mean()
        images, partners, shares = mixup(images, data.synthetic[positions], settings.mixup, rng)
        logits = model(images)
        own = shares * weights * F.cross_entropy(logits, labels, reduction="none")
        partner = (1 - shares) * weights[partners] * F.cross_entropy(logits, labels[partners], reduction="none")
        return (own + partner).mean()

    history = _optimise(optimiser, loss, len(data), settings, rng, WARM_UP)
    return model.eval(), history


def finetune_stage2(
    model: Classifier, data: TrainingSet, settings: Stage2, training: Stage1, seed: int
) -> tuple[Classifier, pd.DataFrame]:
    """Re-train the last layer on the same few real images of every class; returns a new network and its history.

    data: real images only (others raise ValueError). Everything before the last layer stays as it is, the statistics
    of batch normalisation too. training: the stage 1 before it, for its augmentation.
    Raises UserError if a class has fewer images than are asked for.
    """
    if data.synthetic.any():
        raise ValueError("stage 2 takes real images only")
    classes = model.card["classes"]
    rng = np.random.default_rng(seed)
    chosen = torch.from_numpy(choose_few(data.labels.cpu().numpy(), classes, settings.images_per_class, rng))
    torch.manual_seed(seed)
    model = copy.deepcopy(model).to(data.images.device).eval()
    model.requires_grad_(False)
    if settings.start == "fresh":
        model.head.reset_parameters()
    model.head.requires_grad_(True)
    optimiser = torch.optim.SGD(
        model.head.parameters(), settings.learning_rate, MOMENTUM, weight_decay=settings.weight_decay, nesterov=True
    )

    def loss(positions: torch.Tensor) -> torch.Tensor:
        picked = chosen[positions].to(data.images.device)
        with torch.no_grad():
            features = model.features(augment(data.images[picked], training.shift, training.flip, rng))
        return F.cross_entropy(model.head(features), data.labels[picked])

    history = _optimise(optimiser, loss, len(chosen), settings, rng, warm_up=0)
    return model.requires_grad_(True), history


def choose_few(labels: np.ndarray, classes: list[str], count: int | None, rng: np.random.Generator) -> np.ndarray:
    """Positions of `count` images of every class, drawn by `rng` (None: as many as the smallest class has).

    labels: int, N. Raises UserError if a class has fewer.
    """
    sizes = np.bincount(labels, minlength=len(classes))
    smallest = int(sizes.argmin())
    count = int(sizes[smallest]) if count is None else count
    if not 0 < count <= sizes[smallest]:
        raise UserError(
            f"stage2.images_per_class: {count} real images of every class are wanted, but class {classes[smallest]!r} "
            f"has {sizes[smallest]}; lower it, or set null for as many as the smallest class has"
        )
    return np.concatenate([rng.choice(np.flatnonzero(labels == c), count, replace=False) for c in range(len(classes))])


def _optimise(optimiser, loss_of, count: int, settings: Stage1 | Stage2, rng, warm_up: float) -> pd.DataFrame:
    """Take `settings.steps` steps: linear warm-up (a share of the steps), then cosine to 0. Returns the history."""
    rows, total, start = [], torch.zeros(()), time.monotonic()
    warm = warm_up * settings.steps
    # A batch is never larger than the data: a few images would stand in it twice.
    batch_size = min(settings.batch_size, count)
    for step, positions in enumerate(batches(count, batch_size, rng), 1):
        progress = (step - warm) / max(1, settings.steps - warm)
        rate = settings.learning_rate * (step / warm if step < warm else 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = loss_of(positions)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += loss.detach().cpu()
        if step % LOG_EVERY == 0 or step == settings.steps:
            mean = total.item() / (step % LOG_EVERY or LOG_EVERY)
            if not math.isfinite(mean):
                raise UserError(f"the loss is {mean} at step {step}; lower learning_rate")
            rows.append({"step": step, "epoch": step * batch_size / count, "loss": mean, "learning_rate": rate})
            left = (settings.steps - step) * (time.monotonic() - start) / step
            log.info("step %d/%d, loss %.4f, learning rate %.4f, %.0f s left", step, settings.steps, mean, rate, left)
            total.zero_()
        if step == settings.steps:
            return pd.DataFrame(rows)
    raise AssertionError("batches() never ends")
