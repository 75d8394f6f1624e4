"""Splits made from the images of one: stratified, by content and not by position, near-duplicates on one side."""

import logging
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from synaug.config import Dataset
from synaug.images.perceptual_hash import SIDE, perceptual_hashes
from synaug.images.store import load_pixels

log = logging.getLogger(__name__)
# Two images are near-duplicates if at most so many of the 64 bits of their hashes differ, and their thumbnails
# correlate by at least so much. The hash alone is too coarse for small images: it takes 263 of 5.2 million pairs of
# Fashion-MNIST for the same; with the correlation 4 are left. JPEG copies of quality 75 correlate by 0.987 or more.
BITS, CORRELATION = 4, 0.98
_PAIRS = 1 << 16  # compared at a time


def make_splits(rows: list[dict], dataset: Dataset) -> None:
    """Put images of the training split into those of `dataset.make_splits`, by changing `split` of `rows`.

    rows: label_name, group, sha256, usable, path, row. In every class (and group) the images are in the order of the
    hashes of their contents; the first ones, up to the share of the test split, are its images, and the last ones
    those of the validation split. Of two images or more one is for training and one for the test. So names and order do
    not matter, and an image that is added, and is no copy, moves at most one other across each border.
    """
    own = [row for row in rows if row["split"] == dataset.train_split and row["usable"] and row["label_name"]]
    clusters: dict[int, list[dict]] = {}
    for row, number in zip(own, near_duplicates(own), strict=True):
        clusters.setdefault(number, []).append(row)
    cells: dict[tuple, list[list[dict]]] = {}
    for members in sorted((sorted(some, key=_order) for some in clusters.values()), key=lambda some: _order(some[0])):
        cells.setdefault((members[0]["label_name"], members[0]["group"]), []).append(members)
    for there in cells.values():
        count = sum(map(len, there))
        for name in (one for one in dataset.held_out if one in dataset.make_splits):
            test = name == dataset.test_split
            order = there if test else there[::-1]
            wanted = count * dataset.make_splits[name]
            taken = _take(order, max(wanted, 1) if test else wanted)
            for members in taken:
                for row in members:
                    row["split"] = name
            there = [members for members in there if members[0]["split"] == dataset.train_split]
    together = sum(len(members) for members in clusters.values() if len(members) > 1)
    for name in (dataset.train_split, *dataset.make_splits):
        log.info("make_splits: %d images in split %r", sum(row["split"] == name for row in own), name)
    log.info("make_splits: %d images have near-duplicates, with which they were kept together", together)


def _order(row: dict) -> tuple[str, str, str]:
    """The class and group are for a copy in another class: not the order of the rows decides."""
    return row["sha256"], row["label_name"], row["group"]


def _take(clusters: list[list[dict]], wanted: float) -> list[list[dict]]:
    """The first of `clusters` with `wanted` images together, rounded; at least one, if another is left for training."""
    taken: list[list[dict]] = []
    for members in clusters:
        if len(members) / 2 <= wanted and len(taken) < len(clusters) - 1:
            taken.append(members)
            wanted -= len(members)
    return taken


def near_duplicates(rows: list[dict]) -> np.ndarray:
    """Number of the cluster (int, N) of every image of `rows` (path, row, sha256): near-duplicates share one."""
    if not rows:
        return np.empty(0, int)
    # The same file is decoded once.
    unique, copies = np.unique([row["sha256"] for row in rows], return_index=True, return_inverse=True)[1:]
    columns = ("path", "row", "column")
    manifest = pd.DataFrame([{name: rows[i].get(name) for name in columns} for i in unique])
    pixels = load_pixels(manifest.astype({"row": "Int64"}), SIDE, "grey")
    first, second = _near_pairs(perceptual_hashes(pixels))
    same = np.zeros(len(first), bool)
    flat = pixels.reshape(len(pixels), -1)
    for start in range(0, len(first), _PAIRS):
        some = slice(start, start + _PAIRS)
        same[some] = _correlation(flat[first[some]], flat[second[some]]) >= CORRELATION
    graph = coo_array((np.ones(same.sum()), (first[same], second[same])), shape=(len(unique), len(unique)))
    return connected_components(graph, directed=False)[1][copies]


def _near_pairs(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of all pairs of `hashes` (uint64, N) of which at most BITS bits differ; a pair may come more than once.

    Of BITS + 1 pieces of such hashes one is the same (pigeonhole), so only hashes with a piece in common are compared.
    """
    found = []
    edges = np.linspace(0, 64, BITS + 2).astype(int)
    for low, high in pairwise(edges):
        piece = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(piece, kind="stable")
        piece = piece[order]
        # Equal pieces lie side by side: each with the next, the one after that, ... as long as they are equal.
        left, gap = np.arange(len(order)), 1
        while len(left):
            left = left[left + gap < len(order)]
            left = left[piece[left] == piece[left + gap]]
            first, second = order[left], order[left + gap]
            near = np.bitwise_count(hashes[first] ^ hashes[second]) <= BITS
            found.append((first[near], second[near]))
            gap += 1
    return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])


def _correlation(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pearson's, row by row (uint8, N x P each); 1 for two even images of the same brightness, or 0."""
    one, two = some.astype(np.float32), others.astype(np.float32)
    same = (some == others).all(axis=1)
    one -= one.mean(axis=1, keepdims=True)
    two -= two.mean(axis=1, keepdims=True)
    spread = np.sqrt((one**2).sum(axis=1) * (two**2).sum(axis=1))
    return np.where(same, 1, (one * two).sum(axis=1) / np.maximum(spread, 1e-9))
