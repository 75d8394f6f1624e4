"""Nearest neighbours by cosine similarity of features, in blocks of bounded memory, on whichever device."""

import numpy as np
import torch
import torch.nn.functional as F

_BLOCK = 1 << 24  # similarities held at a time: 64 MB


def normalised(features: np.ndarray, device: str) -> torch.Tensor:
    """Features (N x D) as float32 of length 1 on the device; one of length 0 stays, and is similar to nothing."""
    return F.normalize(torch.from_numpy(np.ascontiguousarray(features, np.float32)).to(device), dim=1)


def nearest_similar(features: torch.Tensor, others: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """For each of `features` the position of the most similar of `others`, and their cosine similarity.

    features, others: from `normalised`. Returns int64 and float32; without others -1 and not a number.
    """
    where = np.full(len(features), -1, np.int64)
    similarity = np.full(len(features), np.nan, np.float32)
    if not len(others):
        return where, similarity
    step = max(1, _BLOCK // len(others))
    for start in range(0, len(features), step):
        best = (features[start : start + step] @ others.T).max(dim=1)
        where[start : start + step] = best.indices.cpu().numpy()
        similarity[start : start + step] = best.values.cpu().numpy()
    return where, similarity


def nearest_earlier_similar(features: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """As `nearest_similar`, each image with those before it only: the first one has nothing to be compared with."""
    count = len(features)
    where = np.full(count, -1, np.int64)
    similarity = np.full(count, np.nan, np.float32)
    step = max(1, _BLOCK // max(1, count))
    for start in range(0, count, step):
        end = min(start + step, count)
        block = features[start:end] @ features[:end].T
        # Columns from `start` on may be the image itself or a later one.
        later = torch.ones_like(block, dtype=torch.bool).triu(diagonal=start)
        best = block.masked_fill_(later, -torch.inf).max(dim=1)
        where[start:end] = best.indices.cpu().numpy()
        similarity[start:end] = best.values.cpu().numpy()
    where[:1], similarity[:1] = -1, np.nan
    return where, similarity
