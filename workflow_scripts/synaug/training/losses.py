"""Losses for imbalanced data, and class weights.

Each loss is per image, so that images and mixed pairs can be weighted. label_mass: share of the loss that falls on each
class, as a number of images (float, C; see `synaug.training.label_mass`). If all classes have the same mass, the losses
with a class prior are plain cross-entropy.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from synaug.config import Loss
from synaug.networks.classifier import COSINE_SCALE
from synaug.training.parallel import Process

# Cui et al. 2019 try 0.9, 0.99, 0.999 and 0.9999; the last is the value of the LDAM-DRW code.
EFFECTIVE_BETA = 0.9999

# Smallest prior of a class. A class without mass (in a phase that uses synthetic images only) would have log 0.
MIN_PRIOR = 1e-6

LossPerImage = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def make_loss(settings: Loss, label_mass: torch.Tensor) -> LossPerImage:
    """A function of logits (N x C) and labels (int64, N) that returns the loss of each image (N).

    cross_entropy: -log softmax(z)_y.
    focal: see `focal_loss`. ldam: see `ldam_loss`.
    balanced_softmax (Ren et al. 2020): cross-entropy of z + log n, n = label_mass.
    logit_adjustment (Menon et al. 2021, eq. 10): cross-entropy of z + tau log pi, pi = n / sum n.
    """
    if settings.name == "focal":
        return partial(focal_loss, gamma=settings.gamma)
    if settings.name == "ldam":
        smallest = label_mass[label_mass > 0].min()
        margins = COSINE_SCALE * settings.margin * (smallest / label_mass.clamp_min(smallest)) ** 0.25
        return partial(ldam_loss, margins=margins)
    label_mass = label_mass.clamp_min(MIN_PRIOR * label_mass.sum())
    offset = torch.zeros_like(label_mass)
    if settings.name == "balanced_softmax":
        offset = label_mass.log()
    elif settings.name == "logit_adjustment":
        offset = settings.tau * (label_mass / label_mass.sum()).log()
    return lambda logits, labels: F.cross_entropy(
        logits + offset, labels, reduction="none", label_smoothing=settings.label_smoothing
    )


def focal_loss(logits: torch.Tensor, labels: torch.Tensor, gamma: float) -> torch.Tensor:
    """Lin et al. 2017: -(1 - p_y)^gamma log p_y."""
    log_p = F.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]
    # Never quite 0: at 0 the power has an infinite slope if gamma is below 1.
    one_minus_p = (-torch.expm1(log_p)).clamp_min(1e-12)
    return -(one_minus_p**gamma) * log_p


def ldam_loss(logits: torch.Tensor, labels: torch.Tensor, margins: torch.Tensor) -> torch.Tensor:
    """Cao et al. 2019: cross-entropy of z with s m_y subtracted from z_y.

    margins: s m_j of each class, float, C; m_j = margin (min n / n_j)^(1/4), s is the scale of the cosine head.
    """
    of_label = labels[:, None] == torch.arange(len(margins), device=labels.device)
    return F.cross_entropy(logits - margins * of_label, labels, reduction="none")


def class_weights(weighting: str, label_mass: torch.Tensor) -> torch.Tensor:
    """Weight of each class in the loss, with mean 1 over the classes that have mass; 1 for a class without (float, C).

    none: 1. inverse: 1 / n, n = label_mass. effective (Cui et al. 2019): (1 - b) / (1 - b^n), the inverse of the
    effective number.
    """
    weights, present = torch.ones_like(label_mass), label_mass > 0
    if weighting == "none":
        return weights
    counts = label_mass[present]
    if weighting == "inverse":
        inverse_size = 1 / counts
    else:
        log_beta = torch.tensor(EFFECTIVE_BETA).double().log()
        # On the CPU: Apple GPUs have no float64.
        inverse_size = (1 - EFFECTIVE_BETA) / -torch.expm1(counts.cpu().double() * log_beta)
    weights[present] = (inverse_size / inverse_size.mean()).to(weights.dtype).to(weights.device)
    return weights


class GroupDROLoss:
    """GroupDRO (Sagawa et al. 2020, algorithm 1): groups with a high loss get a growing weight.

    For each batch q_g <- q_g exp(step_size l_g), normalised to sum 1. The loss is sum_g q_g l_g, where l_g is the
    (weighted) mean over the images of group g in the batch, 0 without any. A group here is a cell: a class in a group
    of the data set.
    process: one of several that share each batch; q is the same in all of them, since it follows the whole batch.
    group_weights: q, float, G.
    """

    def __init__(self, groups: int, step_size: float, process: Process):
        self.step_size = step_size
        self.process = process
        self.group_weights = torch.full((groups,), 1 / groups, device=process.device)

    def begin_anew(self, groups: torch.Tensor, drawn: torch.Tensor) -> None:
        """Give all groups with an image the same weight, at the start of a phase that draws from other images.

        groups: group of each image of the training set, int64, N. drawn: whether batches may have it, bool, N.
        """
        # The groups of the paper are those of the images that a network is trained on. A group without an image has a
        # loss of 0 in every batch: its weight would shrink while the others grow, to almost 0 before its first image.
        present = torch.zeros_like(self.group_weights).index_add(0, groups, drawn.float()).clamp_max(1)
        self.group_weights.copy_(present / present.sum())

    def __call__(self, losses: torch.Tensor, groups: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """losses: of the images of a batch, without weights, N. groups: group of each image, int64, N. weights: of each
        image in the mean of its group, N. The mean over the processes of what is returned is the loss of the batch."""
        none = torch.zeros_like(self.group_weights)
        # Not `bincount`, which makes the CPU wait for the GPU to learn how many groups there are.
        sums = self.process.mean(none.index_add(0, groups, weights)).clamp_min(torch.finfo(losses.dtype).tiny)
        mean_losses = none.index_add(0, groups, weights * losses) / sums
        self.group_weights *= (self.step_size * self.process.mean(mean_losses)).exp()
        self.group_weights /= self.group_weights.sum()
        return (self.group_weights * mean_losses).sum()
