"""Which trainings share a GPU unless the user decides it."""

import pytest

from synaug.config import Stage1
from synaug.runtime.devices import WHOLE_DEVICE
from synaug.training.memory import needs_little_memory, share_for


@pytest.mark.parametrize(
    ("settings", "image_size", "expected"),
    [
        ({}, 28, True),
        ({"backbone": "resnet32"}, 64, True),
        ({"batch_size": 512}, 32, True),
        ({"batch_size": 256}, 64, False),
        ({"backbone": "resnet32", "width": 64}, 32, False),
        ({"backbone": "resnet32", "width": 32}, 32, False),  # twice the usual width
        ({"backbone": "resnet32"}, 64, True),
        ({}, 65, False),
        ({"devices": 2}, 28, False),
        ({"backbone": "torchvision/resnet50"}, 224, False),
        ({"backbone": "torchvision/resnet50"}, 32, False),
        ({"backbone": "torchvision/resnet50", "pretrained": True, "freeze": "backbone"}, 224, True),
    ],
)
def test_only_small_networks_share_a_gpu(settings, image_size, expected):
    assert needs_little_memory(Stage1(**settings), image_size) is expected


def test_a_training_with_very_many_images_has_the_gpu_alone_unless_the_user_wants_otherwise(monkeypatch):
    monkeypatch.delenv("SYNAUG_JOBS_PER_DEVICE", raising=False)
    assert share_for(10_000, 125) == 125
    assert share_for(1_160_000, 125) == WHOLE_DEVICE
    monkeypatch.setenv("SYNAUG_JOBS_PER_DEVICE", "8")
    assert share_for(1_160_000, 125) == 125
