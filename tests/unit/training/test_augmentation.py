"""Augmentation: what it does to images, and which crops it draws."""

import numpy as np
import pytest
import torch

from synaug.config import RandAugment, Stage1
from synaug.training.augmentation import augment, crop, draw_crops, place_crops


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(5, 1, 12, 12), (5, 3, 9, 14)])
def test_augmented_images_keep_type_and_shape(dtype, shape):
    images = torch.randint(1, 256, shape).to(dtype)
    moved = augment(images, Stage1(shift=3), np.random.default_rng(0))
    assert (moved.dtype, moved.shape) == (images.dtype, images.shape)
    assert not torch.equal(moved, images)
    assert torch.equal(augment(images, Stage1(shift=0, flip=False), np.random.default_rng(0)), images)


def test_shift_and_flip_move_and_mirror_images_and_nothing_else():
    image = torch.arange(1, 26, dtype=torch.uint8).reshape(1, 1, 5, 5)
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
    windows = [padded[:, :, y : y + 5, x : x + 5] for y in range(3) for x in range(3)]
    possible = {tuple(i.flatten().tolist()) for window in windows for i in (window, window.flip(3))}
    augmented = augment(image.expand(400, -1, -1, -1), Stage1(shift=1), np.random.default_rng(0))
    assert {tuple(i.flatten().tolist()) for i in augmented} == possible


def test_randaugment_changes_images_and_keeps_type_and_shape():
    images = torch.randint(0, 256, (6, 1, 16, 16), dtype=torch.uint8)
    settings = Stage1(shift=0, flip=False, randaugment=RandAugment(operations=3, magnitude=20))
    torch.manual_seed(0)
    augmented = augment(images, settings, np.random.default_rng(0))
    assert (augmented.dtype, augmented.shape) == (images.dtype, images.shape)
    assert not torch.equal(augmented, images)
    torch.manual_seed(0)
    assert torch.equal(augment(images, settings, np.random.default_rng(0)), augmented)


def test_crops_lie_inside_the_image_and_have_the_areas_of_the_settings():
    crops = draw_crops(2000, 0.2, np.random.default_rng(0))
    for sides in ((100, 100), (300, 150), (50, 80)):
        left, top, width, height = place_crops(crops, *sides).T
        assert (left >= 0).all() and (left + width <= sides[0] + 1e-9).all()
        assert (top >= 0).all() and (top + height <= sides[1] + 1e-9).all()
        fits = (width < sides[0]) & (height < sides[1])
        aspect = (width / height)[fits]
        assert 0.7 < aspect.min() < 0.8 and 1.25 < aspect.max() < 1.4  # of the crop, whatever that of the image is

    areas = np.prod(place_crops(crops, 1, 1)[:, 2:], 1)
    assert areas.min() > 0.14 and 0.5 < areas.mean() < 0.62


def test_a_crop_shows_what_it_cuts_out():
    images = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    images[:, :, :, 16:] = 200
    cropped = crop(images, np.array([[0.0, 0, 0.5, 1], [1.0, 0, 0.5, 1]]))
    assert cropped[0, :, :, :30].max() == 0 and cropped[1, :, :, 2:].min() == 200
    assert torch.equal(crop(images, np.array([[0.0, 0, 1, 1]] * 2)), images)


def test_images_that_were_cropped_before_are_not_cropped_again():
    images = torch.randint(0, 256, (6, 1, 16, 16), dtype=torch.uint8)
    settings = Stage1(shift=0, flip=False, crop_area=0.3)
    assert not torch.equal(augment(images, settings, np.random.default_rng(0)), images)
    assert torch.equal(augment(images, settings, np.random.default_rng(0), cropped=True), images)
