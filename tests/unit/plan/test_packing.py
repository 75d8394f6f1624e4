"""How images are packed into shards: how many shards there are, and how many change when classes grow."""

import numpy as np
import pytest

from synaug.plan.shards import runs_of_shards

CLASSES = 1000


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    """Real images per class: a power law from 1,280 to 5 images as in ImageNet-LT, the classes in random order."""
    tail = (1 - np.arange(CLASSES) / (CLASSES - 1)) ** 10.5
    return np.random.default_rng(0).permutation(5 + np.round(1275 * tail).astype(int))


def shards_of_images(counts: np.ndarray, phases: np.ndarray, per_shard: int) -> np.ndarray:
    """The number of the shard of each image."""
    return np.repeat(*runs_of_shards(counts, phases, per_shard))


def contents(real: np.ndarray, target: int, per_shard: int) -> set[bytes]:
    """The images (cell, index) of each shard of a plan that fills all classes to `target`."""
    counts = (target - real).clip(0)
    shards = shards_of_images(counts, real, per_shard)
    cell = np.repeat(np.arange(len(real)), counts)
    index = np.concatenate([np.arange(count) for count in counts])
    order = np.argsort(shards, kind="stable")
    images = (cell * 10_000 + index)[order]
    return {part.tobytes() for part in np.split(images, np.flatnonzero(np.diff(shards[order])) + 1)}


def sizes(shards: set[bytes]) -> np.ndarray:
    return np.array([len(shard) // 8 for shard in shards])


@pytest.mark.parametrize("per_shard", [2000, 1000, 250])
def test_one_image_more_in_every_class_changes_few_shards(real, per_shard):
    before = contents(real, real.max(), per_shard)
    for grown in (1, 2, 3):
        after = contents(real, real.max() + grown, per_shard)
        assert len(after - before) <= 40
        before = after


@pytest.mark.parametrize("per_shard", [2000, 1000, 250])
def test_one_image_more_in_one_class_changes_few_shards(real, per_shard):
    before = contents(real, real.max(), per_shard)
    for cell in np.random.default_rng(1).choice(np.flatnonzero(real < real.max()), 5):
        grown = real + (np.arange(CLASSES) == cell)
        assert len(contents(grown, real.max(), per_shard) - before) <= 40


@pytest.mark.parametrize("per_shard", [2000, 1000, 250])
def test_shards_are_few_and_none_is_small(real, per_shard):
    size = sizes(contents(real, real.max(), per_shard))
    assert size.max() <= per_shard
    assert len(size) <= 1.15 * np.ceil(size.sum() / per_shard)
    assert size.mean() >= 0.85 * per_shard
    assert size.min() >= per_shard / 5


def test_all_images_are_packed_once(real):
    for per_shard in (1, 2, 7, 251, 5000):
        counts = (200 - real).clip(0)
        shards = shards_of_images(counts, real, per_shard)
        assert len(shards) == counts.sum()
        numbers, images = np.unique(shards, return_counts=True)
        assert numbers.tolist() == list(range(len(numbers)))
        assert images.max() <= per_shard


@pytest.mark.parametrize(("classes", "shards"), [(1, 1), (10, 2), (12, 2)])
def test_what_fits_into_few_shards_is_not_cut_into_small_ones(classes, shards):
    counts = np.full(classes, 2400 // classes * (2 if classes > 1 else 1))
    assert len(np.unique(shards_of_images(counts, 2500 - counts, 2500))) == shards


def test_a_full_block_of_a_class_is_a_shard_of_its_own(real):
    counts = real.max() - real
    shards = shards_of_images(counts, real, 250)
    first = np.cumsum(counts) - counts
    for cell in np.flatnonzero(counts >= 500)[:20]:
        for block in range(2):
            images = np.arange(250) + first[cell] + 250 * block
            assert len(set(shards[images])) == 1
            assert (shards == shards[images[0]]).sum() == 250


def test_nothing_to_pack_gives_no_shards():
    assert shards_of_images(np.zeros(3, int), np.ones(3, int), 10).tolist() == []
