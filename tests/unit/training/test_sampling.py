"""Sampling: probabilities of the classes, epochs, two phases, and continuing from a state."""

import tracemalloc

import numpy as np
import pytest
import torch

from synaug.runtime.errors import UserError
from synaug.training.sampling import Sampler, TwoPhaseSampler, image_probabilities, subsample_per_class

LABELS = np.repeat([0, 1, 3], [64, 16, 4])  # class 2 has no image


def drawn_positions(sampling: str, steps: int = 400) -> np.ndarray:
    sampler = Sampler(LABELS, 32, sampling, np.random.default_rng(0))
    return torch.cat([sampler.draw() for _ in range(steps)]).numpy()


@pytest.mark.parametrize(
    ("sampling", "shares"),
    [
        ("uniform", [64 / 84, 16 / 84, 0, 4 / 84]),
        ("class_balanced", [1 / 3, 1 / 3, 0, 1 / 3]),
        ("square_root", [8 / 14, 4 / 14, 0, 2 / 14]),
    ],
)
def test_shares_of_the_classes(sampling, shares):
    counts = np.bincount(LABELS[drawn_positions(sampling)], minlength=4)
    assert counts / counts.sum() == pytest.approx(shares, abs=0.015)


@pytest.mark.parametrize("sampling", ["class_balanced", "square_root"])
def test_all_images_of_a_class_are_equally_likely(sampling):
    counts = np.bincount(drawn_positions(sampling, 2000), minlength=84)
    for label in (0, 1, 3):
        of_class = counts[label == LABELS]
        assert of_class == pytest.approx(np.full(len(of_class), of_class.mean()), rel=0.25)


def test_uniform_draws_every_image_once_before_any_comes_again():
    positions = drawn_positions("uniform", 21)  # 8 times 84
    assert all(sorted(epoch) == list(range(84)) for epoch in positions.reshape(8, 84))


def test_a_batch_is_never_larger_than_the_data():
    assert len(Sampler(np.zeros(5, int), 32, "uniform", np.random.default_rng(0)).draw()) == 5


@pytest.mark.parametrize("sampling", ["uniform", "class_balanced"])
def test_a_sampler_continues_from_its_state(sampling):
    first, second = (Sampler(LABELS, 32, sampling, np.random.default_rng(seed)) for seed in (1, 2))
    for _ in range(5):
        first.draw()
    second.load_state_dict(first.state_dict())
    for _ in range(7):
        assert torch.equal(first.draw(), second.draw())


def test_the_state_at_every_batch_does_not_copy_the_rest_of_the_epoch():
    """The batches of large images are drawn in advance, each with the state before it."""
    sampler = Sampler(np.zeros(200_000, int), 100, "uniform", np.random.default_rng(0))
    sampler.draw()
    tracemalloc.start()
    states = [(sampler.state_dict(), sampler.draw()) for _ in range(4)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000  # the rest of the epoch has 1.6 MB
    sampler.load_state_dict(states[1][0])
    assert torch.equal(sampler.draw(), states[1][1])


def test_two_phases_draw_from_one_part_and_then_from_the_other():
    labels, rng = np.zeros(10, int), np.random.default_rng(0)
    synthetic, real = np.arange(6, 10), np.arange(6)
    phases = [(Sampler(labels[positions], 4, "uniform", rng), positions) for positions in (synthetic, real)]
    sampler = TwoPhaseSampler(*phases, 3)
    first_phase = [sampler.draw() for _ in range(3)]
    state = sampler.state_dict()
    second_phase = [sampler.draw() for _ in range(4)]
    assert all(set(batch.tolist()) <= set(synthetic) for batch in first_phase)
    assert all(set(batch.tolist()) <= set(real) for batch in second_phase)
    sampler.load_state_dict(state)
    assert all(torch.equal(batch, sampler.draw()) for batch in second_phase)


def test_images_of_rare_classes_are_more_probable():
    assert image_probabilities(LABELS, "uniform") is None
    for sampling, shares in (("class_balanced", [1 / 3, 1 / 3, 1 / 3]), ("square_root", [8 / 14, 4 / 14, 2 / 14])):
        probabilities = image_probabilities(LABELS, sampling).numpy()
        assert [probabilities[label == LABELS].sum() for label in (0, 1, 3)] == pytest.approx(shares)
        assert np.ptp(probabilities[LABELS == 0]) == 0


@pytest.mark.parametrize(("count", "drawn"), [(None, 6), (6, 6), (2, 2)])
def test_a_subsample_has_the_same_number_of_images_of_every_class(count, drawn):
    labels = np.repeat(np.arange(3), (30, 20, 6))
    positions = subsample_per_class(labels, np.arange(3), ["a", "b", "c"], count, np.random.default_rng(0))
    assert np.bincount(labels[positions]).tolist() == [drawn] * 3
    assert len(set(positions.tolist())) == len(positions)


@pytest.mark.parametrize(
    ("sizes", "count", "drawn"),
    [
        # Cells of two classes in two groups. Class b has no image in the second group.
        ((9, 9, 9, 9), None, (9, 9, 9, 9)),
        ((30, 6, 20, 0), None, (6, 6, 12, 0)),
        ((30, 6, 7, 0), None, (4, 3, 7, 0)),
        ((30, 6, 20, 0), 3, (3, 3, 6, 0)),
        # One image of every class.
        ((5, 3, 1, 0), None, (1, 0, 1, 0)),
    ],
)
def test_classes_are_equal_even_if_a_class_has_no_image_in_a_group(sizes, count, drawn):
    cells_with_images = [cell for cell, size in enumerate(sizes) if size]
    cells = np.repeat(np.arange(len(cells_with_images)), [sizes[cell] for cell in cells_with_images])
    class_of_cell = np.array([cell // 2 for cell in cells_with_images])
    names = [f"cell {cell}" for cell in cells_with_images]
    positions = subsample_per_class(cells, class_of_cell, names, count, np.random.default_rng(0))
    assert np.bincount(cells[positions], minlength=len(names)).tolist() == [drawn[cell] for cell in cells_with_images]
    assert len(set(positions.tolist())) == len(positions)


def test_a_class_that_cannot_replace_the_images_of_a_missing_group_is_named():
    cells, names = np.repeat(np.arange(3), (9, 9, 5)), ["a, left", "a, right", "b, left"]
    with pytest.raises(UserError, match=r"6 real images of class 'b, left' are wanted, but it has 5"):
        subsample_per_class(cells, np.array([0, 0, 1]), names, 3, np.random.default_rng(0))
