"""Nearest neighbours by cosine similarity of features, on any device, in blocks of bounded memory."""

import numpy as np
import torch
import torch.nn.functional as F

from synaug.runtime.errors import UserError

_BLOCK = 1 << 24  # similarities in memory at a time: 64 MB
# Pairs that are compared one by one on a CPU, for example 2 million synthetic with 137,000 real images: 20 minutes on
# two cores with 512 features. More are searched in an index.
EXACT_PAIRS = 1 << 38
_PROBED = 16  # lists of the index that are searched for each image


def normalise(features: np.ndarray, device: str) -> torch.Tensor:
    """Features (N x D) as float32 of length 1 on the device. A zero vector stays zero: its similarities are 0."""
    return F.normalize(torch.from_numpy(np.ascontiguousarray(features, np.float32)).to(device), dim=1)


def nearest_features(features: torch.Tensor, others: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """For each of `features` the position of the most similar of `others`, and their cosine similarity.

    features, others: from `normalise`. Returns int64 and float32; if there are no others, -1 and NaN. On a GPU, and up
    to EXACT_PAIRS pairs on a CPU, the result is exact. Beyond, an index of the library faiss finds the nearest image
    for nearly all images, and a similar one for the others. Raises UserError if it is needed and not installed.
    """
    if features.device.type == "cpu" and len(features) * len(others) > EXACT_PAIRS:
        return _nearest_in_index(features.numpy(), others.numpy())
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


def _nearest_in_index(features: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `nearest_features`, by an inverted-file index: `others` in clusters, of which the nearest are searched.

    The clusters have a fixed seed. (A graph index depends on the order in which its threads insert images.)
    """
    try:
        import faiss
    except ImportError:
        raise UserError(
            f"the comparison of {len(features):,} with {len(others):,} images on a CPU needs the package faiss-cpu",
            advice="pip install 'synaug[neighbours]', or run rule compare_images on a GPU",
        ) from None
    faiss.omp_set_num_threads(torch.get_num_threads())
    count, width = others.shape
    lists = max(1, int(4 * count**0.5))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = 0
    index.train(others)
    index.add(others)
    index.nprobe = _PROBED
    similarity, nearest = index.search(features, 1)
    return nearest[:, 0].astype(np.int64), similarity[:, 0]


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
