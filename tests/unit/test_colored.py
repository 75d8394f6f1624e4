"""Grey images in colours that go with the class in training and not in the test."""

import numpy as np
import pytest

from synaug.datasets.colored import COLORS, color_images, own_colors


def colored(strength, count=10, each=400, classes=10):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(classes), each))
    images = np.random.default_rng(2).integers(0, 256, (len(labels), 3, 2), dtype=np.uint8)
    colors = dict(list(COLORS.items())[:count])
    return images, labels, *color_images(images, labels, strength, colors, np.random.default_rng(3))


@pytest.mark.parametrize(("count", "strength"), [(10, 0.95), (2, 0.9), (3, 0.5), (10, 0.0), (10, 1.0), (10, 0.1)])
def test_in_training_the_colour_goes_with_the_class_as_often_as_asked_for(count, strength):
    _, labels, _, chosen = colored(strength, count)
    own = own_colors(10, count)[labels]
    assert abs((chosen == own).mean() - strength) < 0.02
    others = np.bincount((chosen - own)[chosen != own] % count, minlength=count)[1:]
    assert others.std() <= 2 * others.mean() ** 0.5


def test_own_colours_are_spread_over_the_classes():
    assert own_colors(10, 2).tolist() == [0] * 5 + [1] * 5
    assert own_colors(10, 10).tolist() == list(range(10))
    assert own_colors(2, 2).tolist() == [0, 1]


@pytest.mark.parametrize(("count", "each"), [(10, 40), (2, 40), (7, 40), (10, 3)])
def test_in_the_test_every_class_has_every_colour_alike(count, each):
    _, labels, _, chosen = colored(None, count, each)
    table = np.zeros((10, count), int)
    np.add.at(table, (labels, chosen), 1)
    assert np.ptp(table, axis=1).max() == (each % count > 0)


def test_images_are_multiplied_by_their_colours_and_black_stays_black():
    images, _, pixels, chosen = colored(0.5)
    assert pixels.shape == (*images.shape, 3) and pixels.dtype == np.uint8
    assert not pixels[images == 0].any()
    palette = np.array(list(COLORS.values()))
    exact = images[..., None] * (palette[chosen][:, None, None] / 255)
    assert np.abs(pixels - exact).max() <= 0.5
    apart = np.linalg.norm(palette[:, None] - palette[None], axis=-1)[np.triu_indices(10, 1)]
    assert apart.min() > 90


def test_colours_are_the_same_each_time_and_others_with_another_seed():
    images, labels, pixels, chosen = colored(0.8)
    again, same = color_images(images, labels, 0.8, COLORS, np.random.default_rng(3))
    assert np.array_equal(again, pixels) and np.array_equal(same, chosen)
    for strength in (0.8, None):
        one, two = (color_images(images, labels, strength, COLORS, np.random.default_rng(s))[1] for s in (3, 4))
        assert not np.array_equal(one, two)


def test_colouring_what_is_no_set_of_grey_images_is_an_error():
    images, labels, rng = np.zeros((4, 2, 2), np.uint8), np.arange(4), np.random.default_rng(0)
    for wrong in (
        (images[..., None], labels, 0.9, COLORS),
        (images.astype(float), labels, 0.9, COLORS),
        (images, labels[:3], 0.9, COLORS),
        (images, labels - 1, 0.9, COLORS),
        (images, labels, 1.1, COLORS),
        (images, labels, None, {"red": (255, 0, 0)}),
    ):
        with pytest.raises(ValueError):
            color_images(*wrong, rng)
