"""Perceptual hashes of images, and nearest neighbours among them. Needs numpy only, and not torch."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from synaug.runtime.machine import usable_cores

SIDE = 32  # side to which an image is scaled, pixels
KEPT = 8  # lowest frequencies that are kept in each direction: 64 bits
_GREY = np.float32(0.299), np.float32(0.587), np.float32(0.114)  # ITU-R BT.601
_BLOCK = 1 << 21  # pairs that a thread compares at once: 16 MB
FURTHEST = 65  # distance of an image without another image to compare it with


def perceptual_hashes(pixels: np.ndarray) -> np.ndarray:
    """64-bit hashes (uint64, N) of images (uint8, N x S x S x 1 or 3): those of similar images differ in few bits.

    pHash as in C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2.1,
    with the 8 x 8 lowest frequencies, as common implementations: the grey image is scaled to 32 x 32 pixels (area mean)
    and cosine-transformed; each bit says whether a frequency is above the median of the 64.
    """
    count, side = pixels.shape[:2]
    if not count:
        return np.empty(0, np.uint64)
    grey = pixels[..., 0].astype(np.float32)
    if pixels.shape[-1] == 3:
        # Channel by channel, because a matrix product with the weights takes ten times as long.
        grey *= _GREY[0]
        grey += _GREY[1] * pixels[..., 1]
        grey += _GREY[2] * pixels[..., 2]
    # Scaling and transform are both linear, so one small matrix on each side does both.
    matrix = (_cosines()[:KEPT] @ _area_means(side)).astype(np.float32)
    low = (matrix @ grey @ matrix.T).reshape(count, KEPT * KEPT)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def _cosines() -> np.ndarray:
    """The matrix of the orthonormal DCT-II over SIDE samples, SIDE x SIDE."""
    frequency, sample = np.mgrid[:SIDE, :SIDE]
    matrix = np.sqrt(2 / SIDE) * np.cos(np.pi * (2 * sample + 1) * frequency / (2 * SIDE))
    matrix[0] /= np.sqrt(2)
    return matrix


def _area_means(side: int) -> np.ndarray:
    """The matrix (SIDE x side) that scales `side` pixels to SIDE; each new pixel is the mean over its area."""
    edges, old = np.arange(SIDE + 1) * side / SIDE, np.arange(side)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    return overlap.clip(0) * SIDE / side


def nearest_hashes(hashes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of `hashes` the position of the nearest of `others` (of equals the first), and how many bits differ.

    hashes, others: uint64. Returns int64 and int16, both as long as `hashes`; without others -1 and FURTHEST.
    """
    nearest = np.full(len(hashes), -1, np.int64)
    distance = np.full(len(hashes), FURTHEST, np.int16)
    if not len(others):
        return nearest, distance
    step = max(1, _BLOCK // len(others))

    def compare(start: int) -> None:
        rows = slice(start, start + step)
        bits = np.bitwise_count(hashes[rows, None] ^ others[None, :])
        nearest[rows] = bits.argmin(axis=1)
        distance[rows] = bits[np.arange(len(bits)), nearest[rows]]

    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(compare, range(0, len(hashes), step)))
    return nearest, distance


def nearest_earlier_hashes(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `nearest_hashes`, but each hash is compared only with the hashes before it. The first has -1 and FURTHEST."""
    nearest = np.full(len(hashes), -1, np.int64)
    distance = np.full(len(hashes), FURTHEST, np.int16)
    step = max(1, _BLOCK // max(1, len(hashes)))
    for start in range(0, len(hashes), step):
        rows = slice(start, min(start + step, len(hashes)))
        bits = np.bitwise_count(hashes[rows, None] ^ hashes[None, : rows.stop])
        bits[np.arange(rows.stop)[None, :] >= np.arange(rows.start, rows.stop)[:, None]] = FURTHEST
        nearest[rows] = bits.argmin(axis=1)
        distance[rows] = bits[np.arange(len(bits)), nearest[rows]]
    nearest[:1], distance[:1] = -1, FURTHEST
    return nearest, distance
