"""Test and validation splits made of training images: stratified, by content, with near-duplicates in one split."""

import logging
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd

from synaug.config import Dataset
from synaug.images.perceptual_hash import SIDE, perceptual_hashes
from synaug.images.store import load_pixels

log = logging.getLogger(__name__)
# Two images are near-duplicates if at most BITS of the 64 bits of their hashes differ, and the correlation of their
# thumbnails is CORRELATION or more. The hash alone is too coarse for small images: it matches 263 of 5.2 million pairs
# of Fashion-MNIST; with the correlation 4 are left. JPEG copies of quality 75 have a correlation of 0.987 or more.
BITS, CORRELATION = 4, 0.98
_PAIRS = 1 << 16  # pairs that are compared at once


def make_splits(rows: list[dict], dataset: Dataset) -> None:
    """Move images of the training split to the splits of `dataset.make_splits`, by changing `split` of `rows`.

    rows: label_name, group, sha256, usable, path, row. In every class (and group) the images are sorted by the hashes
    of their contents. The first ones, up to the share of the test split, become test images; the last ones become
    validation images. Of two images or more, at least one stays a training image and one becomes a test image. Every
    class keeps a training image, also one whose images are near-duplicates of those of another class.
    So the names and the order of the images do not matter, and an additional image that is not a copy moves at most one
    other image across each border.
    """
    images = [row for row in rows if row["split"] == dataset.train_split and row["usable"] and row["label_name"]]
    by_cluster: dict[int, list[dict]] = {}
    for row, number in zip(images, near_duplicates(images), strict=True):
        by_cluster.setdefault(number, []).append(row)
    clusters = sorted(
        (sorted(cluster, key=_order) for cluster in by_cluster.values()), key=lambda rows: _order(rows[0])
    )
    cells: dict[tuple, list[list[dict]]] = {}
    for cluster in clusters:
        cells.setdefault((cluster[0]["label_name"], cluster[0]["group"]), []).append(cluster)
    for remaining in cells.values():
        count = sum(map(len, remaining))
        for split in dataset.held_out:
            if split not in dataset.make_splits:
                continue
            for_test = split == dataset.test_split
            wanted = count * dataset.make_splits[split]
            taken = _take(remaining, max(wanted, 1)) if for_test else _take(remaining[::-1], wanted)
            for row in (row for cluster in taken for row in cluster):
                row["split"] = split
            remaining = [cluster for cluster in remaining if cluster[0]["split"] == dataset.train_split]
    _keep_one_of_every_class(clusters, dataset.train_split)
    for split in (dataset.train_split, *dataset.make_splits):
        log.info("make_splits: %d images in split %r", sum(row["split"] == split for row in images), split)
    duplicates = sum(len(cluster) for cluster in clusters if len(cluster) > 1)
    log.info("make_splits: %d images have near-duplicates, and are in the same split as these", duplicates)


def _keep_one_of_every_class(clusters: list[list[dict]], train_split: str) -> None:
    """Move clusters back to the training split until every class has an image there.

    A cluster belongs to the class of its first image, and may hold all images of another class.
    """
    missing = {row["label_name"] for cluster in clusters for row in cluster}
    missing -= {row["label_name"] for cluster in clusters for row in cluster if row["split"] == train_split}
    for cluster in clusters:
        classes = {row["label_name"] for row in cluster}
        if classes & missing:
            missing -= classes
            for row in cluster:
                row["split"] = train_split


def _order(row: dict) -> tuple[str, str, str]:
    """Sort key. Class and group order the copies of one image that lie in different classes."""
    return row["sha256"], row["label_name"], row["group"]


def _take(clusters: list[list[dict]], wanted: float) -> list[list[dict]]:
    """The first of `clusters` that together hold about `wanted` images. At least one cluster is left for training."""
    taken: list[list[dict]] = []
    for cluster in clusters:
        if len(cluster) / 2 <= wanted and len(taken) < len(clusters) - 1:
            taken.append(cluster)
            wanted -= len(cluster)
    return taken


def near_duplicates(rows: list[dict]) -> np.ndarray:
    """The cluster number (int, N) of each image of `rows` (path, row, sha256): near-duplicates have the same number."""
    if not rows:
        return np.empty(0, int)
    # Imported here because the rules import this package: else every Snakemake call would wait for scipy.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Identical files are decoded once.
    unique, copies = np.unique([row["sha256"] for row in rows], return_index=True, return_inverse=True)[1:]
    columns = ("path", "row", "column")
    manifest = pd.DataFrame([{name: rows[i].get(name) for name in columns} for i in unique])
    pixels = load_pixels(manifest.astype({"row": "Int64"}), SIDE, "grey")
    flat = pixels.reshape(len(pixels), -1)
    clusters = np.arange(len(unique))
    # Blank images have equal hashes, so there can be as many pairs as the square of the images: they are not collected,
    # and those within a cluster are not compared.
    for first, second in _near_pairs(perceptual_hashes(pixels)):
        apart = clusters[first] != clusters[second]
        first, second = first[apart], second[apart]
        same = np.zeros(len(first), bool)
        for start in range(0, len(first), _PAIRS):
            chunk = slice(start, start + _PAIRS)
            same[chunk] = _correlation(flat[first[chunk]], flat[second[chunk]]) >= CORRELATION
        if same.any():
            edges = clusters[first[same]], clusters[second[same]]
            graph = coo_array((np.ones(same.sum()), edges), shape=(len(unique), len(unique)))
            clusters = connected_components(graph, directed=False)[1][clusters]
    # Numbered by the first image of each.
    _, first_image, clusters = np.unique(clusters, return_index=True, return_inverse=True)
    return first_image.argsort().argsort()[clusters][copies]


def _near_pairs(hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions of all pairs of `hashes` (uint64, N) that differ in at most BITS bits, in parts of up to N pairs.

    A pair may occur more than once.

    If the hashes are cut into BITS + 1 pieces, at least one piece of such a pair is equal (pigeonhole principle), so
    only hashes with a piece in common are compared.
    """
    edges = np.linspace(0, 64, BITS + 2).astype(int)
    for low, high in pairwise(edges):
        piece = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(piece, kind="stable")
        piece = piece[order]
        # Equal pieces are now adjacent: compare each with its next neighbour, the one after that, ..., while equal.
        left, gap = np.arange(len(order)), 1
        while len(left):
            left = left[left + gap < len(order)]
            left = left[piece[left] == piece[left + gap]]
            first, second = order[left], order[left + gap]
            near = np.bitwise_count(hashes[first] ^ hashes[second]) <= BITS
            yield first[near], second[near]
            gap += 1


def _correlation(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row with the same row of `others` (uint8, N x P both).

    Of an image of one brightness it is 1 with an identical image, and 0 with any other.
    """
    x, y = images.astype(np.float32), others.astype(np.float32)
    identical = (images == others).all(axis=1)
    x -= x.mean(axis=1, keepdims=True)
    y -= y.mean(axis=1, keepdims=True)
    spread = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.where(identical, 1, (x * y).sum(axis=1) / np.maximum(spread, 1e-9))
