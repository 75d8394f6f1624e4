"""Nearest neighbours by cosine similarity of features, on any device, in blocks of bounded memory."""

import numpy as np
import torch
import torch.nn.functional as F

_BLOCK = 1 << 24  # similarities in memory at a time: 64 MB


def normalise(features: np.ndarray, device: str) -> torch.Tensor:
    """Features (N x D) as float32 of length 1 on the device. A zero vector stays zero: its similarities are 0."""
    return F.normalize(torch.from_numpy(np.ascontiguousarray(features, np.float32)).to(device), dim=1)


def nearest_features(features: torch.Tensor, others: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """For each of `features` the position of the most similar of `others`, and their cosine similarity.

    features, others: from `normalise`. Returns int64 and float32; if there are no others, -1 and NaN.
    """
    nearest = np.full(len(features), -1, np.int64)
    similarity = np.full(len(features), np.nan, np.float32)
    if not len(others):
        return nearest, similarity
    step = max(1, _BLOCK // len(others))
    for start in range(0, len(features), step):
        best = (features[start : start + step] @ others.T).max(dim=1)
        nearest[start : start + step] = best.indices.cpu().numpy()
        similarity[start : start + step] = best.values.cpu().numpy()
    return nearest, similarity


def nearest_earlier_features(features: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """As `nearest_features`, but each image is compared with the images before it. The first has no neighbour."""
    count = len(features)
    nearest = np.full(count, -1, np.int64)
    similarity = np.full(count, np.nan, np.float32)
    step = max(1, _BLOCK // max(1, count))
    for start in range(0, count, step):
        end = min(start + step, count)
        block = features[start:end] @ features[:end].T
        # Row i of the block is image start + i: the image itself and later ones are masked.
        not_earlier = torch.ones_like(block, dtype=torch.bool).triu(diagonal=start)
        best = block.masked_fill_(not_earlier, -torch.inf).max(dim=1)
        nearest[start:end] = best.indices.cpu().numpy()
        similarity[start:end] = best.values.cpu().numpy()
    nearest[:1], similarity[:1] = -1, np.nan
    return nearest, similarity
