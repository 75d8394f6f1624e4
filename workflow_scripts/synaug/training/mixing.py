"""Mixup and CutMix, within a domain or between the two domains (real and synthetic)."""

from math import exp, lgamma
from typing import NamedTuple

import numpy as np
import torch

from synaug.config import CutMix, Mixup
from synaug.training.transfer import to_device


class MixedBatch(NamedTuple):
    """images: float32, N x C x H x W (or features, N x D).

    partners: position in the batch of each image's partner, int64, N. share: share of the image itself in its mixture
    (lambda in the papers), float32, N; the partner has the rest.
    """

    images: torch.Tensor
    partners: torch.Tensor
    share: torch.Tensor


def mix(
    images: torch.Tensor,
    synthetic: torch.Tensor,
    mixup_settings: Mixup | None,
    cutmix_settings: CutMix | None,
    rng: np.random.Generator,
) -> MixedBatch:
    """Mix a batch by the method whose settings are given; with both, one of them is drawn at even odds.

    images: N x C x H x W; for Mixup also features, N x D. synthetic: which of them are synthetic, bool, N, on the CPU,
    where the partners are drawn.
    """
    if cutmix_settings is None or (mixup_settings is not None and rng.random() < 0.5):
        return mixup(images, synthetic, mixup_settings, rng)
    return cutmix(images, synthetic, cutmix_settings, rng)


def mixup(images: torch.Tensor, synthetic: torch.Tensor, settings: Mixup, rng: np.random.Generator) -> MixedBatch:
    """Mixup (Zhang et al. 2018): x = s x + (1 - s) x_partner, s ~ Beta(alpha, alpha). Arguments as for `mix`.

    Of features, this is manifold Mixup (Verma et al. 2019) at the last hidden layer.
    """
    share = to_device(rng.beta(settings.alpha, settings.alpha, len(images)).astype(np.float32), images.device)
    partners = to_device(draw_partners(synthetic.numpy(), settings.pairing, rng), images.device)
    images = images.float()
    pixel_share = share.reshape(-1, *[1] * (images.dim() - 1))
    return MixedBatch(pixel_share * images + (1 - pixel_share) * images[partners], partners, share)


def cutmix(images: torch.Tensor, synthetic: torch.Tensor, settings: CutMix, rng: np.random.Generator) -> MixedBatch:
    """CutMix (Yun et al. 2019): paste a rectangle of the partner into each image. Arguments as for `mix`.

    The rectangle has the share 1 - s of the area, s ~ Beta(alpha, alpha), and its centre is uniform over the image; it
    is cut off at the image's edges. The share that is returned is the area that is really left.
    """
    count, _, height, width = images.shape
    side = np.sqrt(1 - rng.beta(settings.alpha, settings.alpha, count))
    rows, columns = (to_device(_draw_spans(length, side, rng), images.device) for length in (height, width))
    pasted = rows[:, :, None] & columns[:, None, :]
    partners = to_device(draw_partners(synthetic.numpy(), settings.pairing, rng), images.device)
    mixed = torch.where(pasted[:, None], images[partners], images).float()
    return MixedBatch(mixed, partners, 1 - pasted.float().mean((1, 2)))


def mean_partner_share(settings: Mixup | CutMix) -> float:
    """Expected share of the partner in a mixture.

    Mixup: 1/2, since Beta(alpha, alpha) is symmetric. CutMix: a span of length l with a uniform centre covers l - l^2/4
    of the unit interval on average, so a rectangle of area u = l^2 covers (l - l^2/4)^2 = u - u^(3/2)/2 + u^2/16, with
    u ~ Beta(alpha, alpha). Whole pixels make it smaller: with alpha 1 it is 0.321 here, 0.300 with sides of 32 pixels,
    and 0.233 with sides of 8.
    """
    if isinstance(settings, Mixup):
        return 0.5
    alpha = settings.alpha

    def moment(power: float) -> float:
        """E u^power."""
        return exp(lgamma(alpha + power) + lgamma(2 * alpha) - lgamma(alpha) - lgamma(2 * alpha + power))

    return moment(1) - moment(1.5) / 2 + moment(2) / 16


def _draw_spans(length: int, side: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which of `length` pixels lie in a span with a random centre: bool, N x length. side: shares of `length`, N."""
    centre = rng.integers(length, size=len(side))
    half = (length * side / 2).astype(int)
    pixel = np.arange(length)
    return (pixel >= (centre - half)[:, None]) & (pixel < (centre + half)[:, None])


def draw_partners(synthetic: np.ndarray, pairing: str, rng: np.random.Generator) -> np.ndarray:
    """Position in the batch of each image's partner (int64, N). synthetic: bool, N.

    pairing: `random`, any image of the batch; `real_synthetic`, an image of the other domain, or any image if the
    batch has only one domain.
    """
    real_positions, synthetic_positions = np.flatnonzero(~synthetic), np.flatnonzero(synthetic)
    if pairing == "random" or not len(real_positions) or not len(synthetic_positions):
        return rng.permutation(len(synthetic))
    partners = np.empty(len(synthetic), np.int64)
    partners[real_positions] = rng.choice(synthetic_positions, len(real_positions))
    partners[synthetic_positions] = rng.choice(real_positions, len(synthetic_positions))
    return partners
