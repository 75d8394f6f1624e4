"""Losses made for imbalance, and class weights. Each is per image, so that rows and mixed pairs can be weighted.

counts: training images per class, float, C. They are those of what is trained on: with data that were filled they are
all equal, and then the losses that go by them are plain cross-entropy.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from synaug.config import Loss
from synaug.networks.classifier import COSINE_SCALE

# Cui et al. 2019 try 0.9, 0.99, 0.999 and 0.9999; the last is that of LDAM-DRW.
EFFECTIVE_BETA = 0.9999

PerImage = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def make_loss(settings: Loss, counts: torch.Tensor) -> PerImage:
    """A function: logits (N x C) and labels (int64, N) to the loss of every image (N).

    cross_entropy: -log softmax(z)_y.
    focal (Lin et al. 2017): -(1 - p_y)^gamma log p_y.
    balanced_softmax (Ren et al. 2020): cross-entropy of z + log n.
    logit_adjustment (Menon et al. 2021, eq. 10): cross-entropy of z + tau log pi, pi = n / sum n.
    ldam (Cao et al. 2019): cross-entropy of z with s m_y taken from z_y, m_j = margin (min n / n_j)^(1/4); s: the scale
    of the cosine head.
    """
    smoothing = settings.label_smoothing
    shift = torch.zeros_like(counts)
    if settings.name == "balanced_softmax":
        shift = counts.log()
    elif settings.name == "logit_adjustment":
        shift = settings.tau * (counts / counts.sum()).log()
    margins = COSINE_SCALE * settings.margin * (counts.min() / counts) ** 0.25

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if settings.name == "focal":
            own = F.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]
            # Never quite 0: there the power has no finite slope if gamma is below 1.
            return -((-torch.expm1(own)).clamp_min(1e-12) ** settings.gamma) * own
        if settings.name == "ldam":
            return F.cross_entropy(logits - margins * F.one_hot(labels, len(margins)), labels, reduction="none")
        return F.cross_entropy(logits + shift, labels, reduction="none", label_smoothing=smoothing)

    return loss


def class_weights(kind: str, counts: torch.Tensor) -> torch.Tensor:
    """Weight of every class, with mean 1 (float, C).

    none: 1. inverse: 1 / n. effective (Cui et al. 2019): (1 - b) / (1 - b^n), the inverse of the effective number.
    """
    if kind == "none":
        return torch.ones_like(counts)
    if kind == "inverse":
        weights = 1 / counts
    else:
        weights = (1 - EFFECTIVE_BETA) / -torch.expm1(counts.double() * torch.tensor(EFFECTIVE_BETA).double().log())
    return (weights / weights.mean()).to(counts.dtype)


class WorstGroups:
    """The loss of GroupDRO (Sagawa et al. 2020, algorithm 1): cells that are read badly count more and more.

    q_g <- q_g exp(step l_g), made to sum to 1; the loss is sum_g q_g l_g, l_g the mean over the images of cell g in the
    batch, 0 without any. shares: q, float, G.
    """

    def __init__(self, cells: int, step: float, device: torch.device):
        self.step = step
        self.shares = torch.full((cells,), 1 / cells, device=device)

    def __call__(self, losses: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """losses: of the images, N. cells: of each, int64, N."""
        counts = torch.bincount(cells, minlength=len(self.shares)).clamp_min(1)
        means = torch.zeros_like(self.shares).index_add(0, cells, losses) / counts
        self.shares *= (self.step * means.detach()).exp()
        self.shares /= self.shares.sum()
        return (self.shares * means).sum()
