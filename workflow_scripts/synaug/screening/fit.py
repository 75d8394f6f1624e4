"""The classifier of the screening: trained on the real images alone, every class seen equally often."""

import logging
import math
import time

import numpy as np
import torch
import torch.nn.functional as F

from synaug.errors import UserError
from synaug.training.backbones import Classifier
from synaug.training.data import TrainingSet, augment

log = logging.getLogger(__name__)
BACKBONE, WIDTH = "resnet8", 24
BATCH = 128
PEAK_RATE, MOMENTUM, DECAY = 0.1, 0.9, 5e-4
WARM_UP = 0.1  # of the steps
SHIFT, FLIP = 2, True
LOG_EVERY = 100  # steps


def fit_screener(data: TrainingSet, classes: list[str], steps: int, seed: int) -> Classifier:
    """A small network that knows the classes from the real images in `data`.

    Each image of a batch is of a class drawn at random, then one of its images: or it would hardly ever say a rare
    class, and images of rare classes would be rejected wholesale. The same seed on the same device and number of
    threads gives the same network. Raises UserError if a class has no image.
    """
    labels = data.labels.cpu().numpy()
    of_class = [np.flatnonzero(labels == label) for label in range(len(classes))]
    for name, positions in zip(classes, of_class, strict=True):
        if not len(positions):
            raise UserError(f"class {name!r} has no usable real training image; look at real.parquet")
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    _, channels, size, _ = data.images.shape
    model = Classifier(BACKBONE, WIDTH, classes, size, channels)
    model.normalise_by(data.images)
    model.to(data.images.device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(model.parameters(), PEAK_RATE, MOMENTUM, weight_decay=DECAY, nesterov=True)
    warm = max(1.0, WARM_UP * steps)

    def rate(done: int) -> float:
        """Share of the peak rate: linear warm-up, then cosine to 0."""
        if done + 1 < warm:
            return (done + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (done + 1 - warm) / max(1.0, steps - warm + 1)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    total, start = 0.0, time.monotonic()
    for step in range(1, steps + 1):
        drawn = rng.integers(len(classes), size=BATCH)
        shares = rng.random(BATCH)
        picked = [of_class[c][int(share * len(of_class[c]))] for c, share in zip(drawn, shares, strict=True)]
        picked = torch.tensor(np.array(picked), device=data.images.device)
        loss = F.cross_entropy(model(augment(data.images[picked], SHIFT, FLIP, rng)), data.labels[picked])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        total += loss.item()
        if step % LOG_EVERY == 0:
            left = (steps - step) * (time.monotonic() - start) / step
            log.info("step %d/%d, loss %.4f, %.0f s left", step, steps, total / LOG_EVERY, left)
            total = 0.0
    return model.eval()
