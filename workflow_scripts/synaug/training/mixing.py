"""Mixup, within and across the two domains (real and synthetic)."""

import numpy as np
import torch

from synaug.config import Mixup


def mixup(
    images: torch.Tensor, synthetic: torch.Tensor, settings: Mixup, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
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


def draw_partners(synthetic: np.ndarray, pairing: str, rng: np.random.Generator) -> np.ndarray:
    """Position of every image's partner (int64, N). synthetic: bool, N. pairing: `random` or `real_synthetic`."""
    real, fake = np.flatnonzero(~synthetic), np.flatnonzero(synthetic)
    if pairing == "random" or not len(real) or not len(fake):
        return rng.permutation(len(synthetic))
    partners = np.empty(len(synthetic), np.int64)
    partners[real] = rng.choice(fake, len(real))
    partners[fake] = rng.choice(real, len(fake))
    return partners
