"""How GPUs compute is set for training and for predictions, as the config says, and afterwards it is as before."""

import numpy as np
import pytest
import torch

from synaug.config import Stage1, Stage2
from synaug.networks.arithmetic import gpu_arithmetic
from synaug.networks.classifier import Classifier
from synaug.runtime.errors import UserError
from synaug.training.stage1 import train_stage1
from synaug.training.stage2 import finetune_stage2
from training_sets import CLASSES, brightness_classes, same_weights

SETTINGS = Stage1(width=4, steps=2, batch_size=8)


def state() -> tuple:
    """Products of float32 matrices and convolutions; whether cuDNN tries algorithms; whether sums have one order."""
    return (
        torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision,
        torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled(),
    )  # fmt: skip


@pytest.fixture
def states(monkeypatch) -> list[tuple]:
    """The state whenever a classifier computes features."""
    seen = []
    features = Classifier.features
    monkeypatch.setattr(Classifier, "features", lambda *arguments: seen.append(state()) or features(*arguments))
    return seen


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("ieee", "ieee", True, False)),
        ({"precision": "tf32"}, ("tf32", "tf32", True, False)),
        ({"precision": "bfloat16"}, ("tf32", "tf32", True, False)),
        ({"deterministic": True}, ("ieee", "ieee", False, True)),
    ],
    ids=str,
)
def test_both_stages_compute_as_the_config_says_and_predictions_in_float32(change, expected, states):
    before, data, settings = state(), brightness_classes(), SETTINGS.model_copy(update=change)
    model, _ = train_stage1(data, CLASSES, settings, 0)
    assert set(states) == {expected}
    finetune_stage2(model, data, Stage2(steps=2), settings, 0, np.ones(3))
    assert set(states) == {expected}
    states.clear()
    model.probabilities(data.images)
    assert set(states) == {("ieee", "ieee", False, False)}
    assert state() == before


def test_on_a_cpu_neither_tf32_nor_the_deterministic_mode_changes_a_network():
    data = brightness_classes()
    networks = [
        train_stage1(data, CLASSES, SETTINGS.model_copy(update=change), 0)[0].state_dict()
        for change in ({}, {"precision": "tf32"}, {"deterministic": True})
    ]
    assert same_weights(networks[0], networks[1]) and same_weights(networks[0], networks[2])


def test_an_operation_without_a_deterministic_algorithm_is_a_user_error():
    before = state()
    text = "max_pool3d_backward_cuda does not have a deterministic implementation, but you set 'torch.use_..."
    expected = "no deterministic algorithm for max_pool3d_backward_cuda; set it to false"
    with pytest.raises(UserError, match=expected), gpu_arithmetic(deterministic=True):
        raise RuntimeError(text)
    with pytest.raises(RuntimeError, match="something else"), gpu_arithmetic(deterministic=True):
        raise RuntimeError("something else")
    assert state() == before
