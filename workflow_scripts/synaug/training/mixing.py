"""Mixup and CutMix, within and across the two domains (real and synthetic)."""

import numpy as np
import torch

from synaug.config import CutMix, Mixup

Mixed = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def mix(
    images: torch.Tensor, synthetic: torch.Tensor, settings: Mixup | None, cut: CutMix | None, rng: np.random.Generator
) -> Mixed:
    """`mixup`, or `cutmix`, or for each batch one of both at even odds, as the settings say (one of them is given)."""
    if cut is None or (settings is not None and rng.random() < 0.5):
        return mixup(images, synthetic, settings, rng)
    return cutmix(images, synthetic, cut, rng)


def mixup(images: torch.Tensor, synthetic: torch.Tensor, settings: Mixup, rng: np.random.Generator) -> Mixed:
    """Mix every image with a partner of its batch (Zhang et al. 2018): x = w x + (1 - w) x_partner, w ~ Beta(a, a).

    images: N x C x H x W. synthetic: bool, N. Returns the mixed images (float32), the partners' positions (int64, N)
    and the weights of the images themselves (float32, N). With pairing `real_synthetic` the partner is drawn from the
    other domain; if the batch has only one domain, from the batch.
    """
    weights = torch.from_numpy(rng.beta(settings.alpha, settings.alpha, len(images)).astype(np.float32))
    weights = weights.to(images.device)
    partners = torch.from_numpy(draw_partners(synthetic.cpu().numpy(), settings.pairing, rng)).to(images.device)
    images = images.float()
    share = weights[:, None, None, None]
    return share * images + (1 - share) * images[partners], partners, weights


def cutmix(images: torch.Tensor, synthetic: torch.Tensor, settings: CutMix, rng: np.random.Generator) -> Mixed:
    """Paste a rectangle of its partner into every image (Yun et al. 2019): of the share 1 - w of its area,
    w ~ Beta(a, a), with the centre anywhere. As in `mixup`; the weights returned are the shares that are left.
    """
    count, _, height, width = images.shape
    side = np.sqrt(1 - rng.beta(settings.alpha, settings.alpha, count))
    spans = []
    for length in (height, width):
        centre = rng.integers(length, size=count)
        half = (length * side / 2).astype(int)
        where = np.arange(length)
        spans.append((where >= (centre - half)[:, None]) & (where < (centre + half)[:, None]))
    pasted = torch.from_numpy(spans[0][:, :, None] & spans[1][:, None, :]).to(images.device)
    partners = torch.from_numpy(draw_partners(synthetic.cpu().numpy(), settings.pairing, rng)).to(images.device)
    mixed = torch.where(pasted[:, None], images[partners], images).float()
    return mixed, partners, 1 - pasted.float().mean((1, 2))


def draw_partners(synthetic: np.ndarray, pairing: str, rng: np.random.Generator) -> np.ndarray:
    """Position of every image's partner (int64, N). synthetic: bool, N. pairing: `random` or `real_synthetic`."""
    real, fake = np.flatnonzero(~synthetic), np.flatnonzero(synthetic)
    if pairing == "random" or not len(real) or not len(fake):
        return rng.permutation(len(synthetic))
    partners = np.empty(len(synthetic), np.int64)
    partners[real] = rng.choice(fake, len(real))
    partners[fake] = rng.choice(real, len(fake))
    return partners
