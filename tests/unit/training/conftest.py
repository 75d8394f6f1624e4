"""A network that has learned a spurious correlation, which methods for groups have to improve on."""

import pytest

from synaug.config import Stage1
from synaug.networks.classifier import Classifier
from synaug.training.stage1 import train_stage1
from training_sets import SIDES, spurious_brightness


@pytest.fixture(scope="session")
def group_settings() -> Stage1:
    return Stage1(width=4, steps=60, batch_size=32, learning_rate=0.05, shift=0, flip=False)


@pytest.fixture(scope="session")
def spurious_model(group_settings) -> Classifier:
    """Trained with plain cross-entropy on `spurious_brightness`."""
    return train_stage1(spurious_brightness(), SIDES, group_settings, 0)[0]
