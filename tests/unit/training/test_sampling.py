"""Which images a step sees: shares of the classes, epochs, and going on from a state."""

import numpy as np
import pytest
import torch

from synaug.training.sampling import Sampler, image_shares

LABELS = np.repeat([0, 1, 3], [64, 16, 4])  # class 2 has no image


def drawn(kind: str, steps: int = 400) -> np.ndarray:
    sampler = Sampler(LABELS, 32, kind, np.random.default_rng(0))
    return torch.cat([sampler.draw() for _ in range(steps)]).numpy()


@pytest.mark.parametrize(
    ("kind", "shares"),
    [
        ("uniform", [64 / 84, 16 / 84, 0, 4 / 84]),
        ("class_balanced", [1 / 3, 1 / 3, 0, 1 / 3]),
        ("square_root", [8 / 14, 4 / 14, 0, 2 / 14]),
    ],
)
def test_shares_of_the_classes(kind, shares):
    counts = np.bincount(LABELS[drawn(kind)], minlength=4)
    assert counts / counts.sum() == pytest.approx(shares, abs=0.015)


@pytest.mark.parametrize("kind", ["class_balanced", "square_root"])
def test_every_image_of_a_class_is_as_likely(kind):
    counts = np.bincount(drawn(kind, 2000), minlength=84)
    for label in (0, 1, 3):
        of_class = counts[label == LABELS]
        assert of_class == pytest.approx(np.full(len(of_class), of_class.mean()), rel=0.25)


def test_uniform_shows_every_image_once_before_any_comes_again():
    positions = drawn("uniform", 21)  # 8 times 84
    assert all(sorted(epoch) == list(range(84)) for epoch in positions.reshape(8, 84))


def test_a_batch_is_never_larger_than_the_data():
    assert len(Sampler(np.zeros(5, int), 32, "uniform", np.random.default_rng(0)).draw()) == 5


@pytest.mark.parametrize("kind", ["uniform", "class_balanced"])
def test_it_goes_on_from_its_state(kind):
    one, other = (Sampler(LABELS, 32, kind, np.random.default_rng(seed)) for seed in (1, 2))
    for _ in range(5):
        one.draw()
    other.state = one.state
    for _ in range(7):
        assert torch.equal(one.draw(), other.draw())


def test_images_of_rare_classes_are_shown_more_often():
    assert image_shares(LABELS, "uniform") is None
    for kind, shares in (("class_balanced", [1 / 3, 1 / 3, 1 / 3]), ("square_root", [8 / 14, 4 / 14, 2 / 14])):
        weights = image_shares(LABELS, kind).numpy()
        assert [weights[label == LABELS].sum() for label in (0, 1, 3)] == pytest.approx(shares)
        assert np.ptp(weights[LABELS == 0]) == 0
