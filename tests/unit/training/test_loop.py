"""The training loop: interrupted training ends with the same weights; averaged weights; other precisions."""

import numpy as np
import pytest
import torch
from torch import nn

from synaug.runtime.errors import UserError
from synaug.training import loop
from synaug.training.checkpoint import Checkpoint
from synaug.training.loop import scheduled_rate, training_loop
from synaug.training.optimizer import make_optimizer
from synaug.training.sampling import Sampler
from training.train import checkpoint_of
from training_sets import same_weights

STEPS = 26


class Stop(Exception):
    """Stands for anything that ends a job."""


def train(checkpoint=None, stop_at=None, nan_from=None, after_step=None, steps=STEPS, **settings):
    """Train a small network with batch normalisation and dropout on noise.

    It stops at step `stop_at`; the loss is not a number from step `nan_from` on. Returns the weights, the history and
    the number of steps of this call.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    inputs = torch.randn(40, 6)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3)).train()
    steps_done = 0

    def compute_loss(positions, steps_before):
        nonlocal steps_done
        step = steps_before + 1
        steps_done += 1
        if step == stop_at:
            raise Stop
        noise = torch.from_numpy(rng.normal(size=(len(positions), 6)).astype(np.float32))
        loss = model(inputs[positions] + noise).square().mean()
        return loss * float("nan") if nan_from and step >= nan_from else loss

    sampler = Sampler(np.arange(40) % 3, 8, settings.pop("sampling", "uniform"), rng)
    optimizer = make_optimizer([{"params": model.parameters()}], settings.pop("optimizer", "sgd"), 0.05, 5e-4)
    history = training_loop(
        model,
        optimizer,
        sampler,
        compute_loss,
        rng,
        steps=steps,
        warm_up=0.1,
        after_step=(lambda: after_step(model)) if after_step else None,
        checkpoint=checkpoint,
        **settings,
    )
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}, history, steps_done


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch):
    """The history has a row, and a checkpoint is saved, after every 10 steps."""
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 0.0)
    monkeypatch.setattr(loop, "LOG_EVERY", 10)


@pytest.fixture
def checkpoint(tmp_path) -> Checkpoint:
    return Checkpoint(tmp_path / "state.pt", "key")


@pytest.mark.parametrize(
    "settings",
    [{}, {"sampling": "class_balanced"}, {"optimizer": "adamw", "ema": 0.9}, {"precision": "bfloat16"}],
    ids=["sgd", "class_balanced", "adamw and averaged", "bfloat16"],
)
def test_interrupted_training_ends_in_the_same_weights(checkpoint, settings):
    whole, history, _ = train(**settings)
    for stop_at in (6, 15, 22):  # before the first checkpoint, after it, after the second
        with pytest.raises(Stop):
            train(checkpoint, stop_at, **settings)
    resumed, history_resumed, steps_done = train(checkpoint, **settings)
    assert steps_done == 6  # the checkpoint was saved after 20 of 26 steps
    assert same_weights(resumed, whole)
    assert history_resumed.equals(history)


def test_a_checkpoint_of_other_settings_is_ignored(checkpoint):
    with pytest.raises(Stop):
        train(checkpoint, 15)
    *_, steps_done = train(Checkpoint(checkpoint.path, "another key"))
    assert steps_done == STEPS


def test_other_pretrained_weights_in_the_same_file_are_another_training(tmp_path):
    file = tmp_path / "weights.safetensors"
    keys = []
    for content in (b"old", b"new", b"old"):
        file.write_bytes(content)
        keys.append(checkpoint_of(tmp_path, "a", 0, [str(file)], {"pretrained": str(file)}).key)
    assert keys[0] == keys[2] != keys[1]


def test_a_checkpoint_of_another_number_of_processes_is_ignored_with_one_line(checkpoint, caplog):
    caplog.set_level("INFO")
    with pytest.raises(Stop):
        train(Checkpoint(checkpoint.path, checkpoint.of_processes(2).key), 15)
    caplog.clear()
    *_, steps_done = train(checkpoint)
    assert steps_done == STEPS
    assert caplog.text.count("state.pt has other settings, images or devices; training starts from the beginning") == 1


def test_an_incomplete_checkpoint_is_ignored(checkpoint):
    with pytest.raises(Stop):
        train(checkpoint, 15)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:1000])
    *_, steps_done = train(checkpoint)
    assert steps_done == STEPS


def test_a_loss_that_is_not_a_number_keeps_the_last_good_state(checkpoint):
    with pytest.raises(UserError, match=r"nan at step 20; lower learning_rate; .*state\.pt has the last good state"):
        train(checkpoint, nan_from=12)
    assert checkpoint.load()["step"] == 10
    *_, steps_done = train(checkpoint)
    assert steps_done == 16


def test_averaged_weights_by_hand():
    biases = []
    averaged, _, _ = train(steps=5, ema=0.35, after_step=lambda model: biases.append(model[3].bias.detach().clone()))
    expected = biases[0]
    # The decay is (1 + n) / (10 + n) after n updates until that exceeds `ema`.
    for decay, bias in zip((2 / 11, 3 / 12, 4 / 13, 0.35), biases[1:], strict=True):
        expected = decay * expected + (1 - decay) * bias
    assert torch.allclose(averaged["3.bias"], expected, atol=1e-6)
    assert not torch.allclose(expected, biases[-1], atol=1e-4)


def test_the_learning_rate_rises_to_its_peak_and_falls_to_0():
    rates = [scheduled_rate(0.4, step, 20, 4.0) for step in range(1, 21)]
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates[11] == pytest.approx(0.2)  # half of the way from step 4 to step 20
    assert rates[3:] == sorted(rates[3:], reverse=True) and rates[-1] == pytest.approx(0)
