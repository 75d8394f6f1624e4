"""RandAugment of a batch gives each image what torchvision gives a single image, equally often."""

import pytest
import torch
from torchvision.transforms import v2

from synaug.training.randaugment import rand_augment

OPERATIONS = dict(v2.RandAugment._AUGMENTATION_SPACE)
IMAGES = torch.randint(0, 200, (24, 3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_changes_an_image_as_torchvision_changes_it(name, channels, monkeypatch):
    monkeypatch.setattr(v2.RandAugment, "_AUGMENTATION_SPACE", {name: OPERATIONS[name]})
    images = IMAGES[:, :channels]
    torch.manual_seed(0)
    augmented = rand_augment(images, 1, 20)
    directions = []
    for number in (0.0, 1.0):  # negative and positive magnitude
        monkeypatch.setattr(torch, "rand", lambda *_, number=number: torch.tensor(number))
        directions.append(torch.stack([v2.RandAugment(1, 20)(image) for image in images]))
    drawn = [(augmented == expected).flatten(1).all(1) for expected in directions]
    assert (drawn[0] | drawn[1]).all()
    if OPERATIONS[name][1] and (name, channels) != ("Color", 1):  # it has a sign, and a grey image has no saturation
        assert not torch.equal(*directions)
        assert 4 < drawn[0].sum() < 20 and 4 < drawn[1].sum() < 20  # of 24


def test_operations_are_equally_frequent_and_independent_of_each_other(monkeypatch):
    """Every operation writes its number into the image that it gets: the history of the operations of each image."""
    number = {name: position for position, name in enumerate(OPERATIONS)}

    def write(self, images, name, *_):
        return 14 * images + number[name]

    monkeypatch.setattr(v2.RandAugment, "_apply_image_or_video_transform", write)
    torch.manual_seed(0)
    pairs = rand_augment(torch.zeros(20_000, 1, 1, 1, dtype=torch.int64), 2, 9).flatten().bincount(minlength=196)
    assert pairs.min() > 60 and pairs.max() < 150  # 102 on average, with a deviation of 10


def test_images_keep_their_places(monkeypatch):
    """Operations of magnitude 0 (no posterising, no rotation ...) leave the order of the images as it is."""
    space = {name: OPERATIONS[name] for name in ("Identity", "ShearX", "Rotate", "Brightness", "Posterize")}
    monkeypatch.setattr(v2.RandAugment, "_AUGMENTATION_SPACE", space)
    assert torch.equal(rand_augment(IMAGES, 4, 0), IMAGES)
