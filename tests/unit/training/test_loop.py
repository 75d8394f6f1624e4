"""The loop of both stages: interrupted training goes on to the same weights; averaged weights; other precisions."""

import numpy as np
import pytest
import torch
from torch import nn

from synaug.config import Stage1
from synaug.runtime.errors import UserError
from synaug.training import loop
from synaug.training.loop import Checkpoint, optimise
from synaug.training.sampling import Sampler

SETTINGS = {"steps": 130, "batch_size": 8, "learning_rate": 0.05}


class Stop(Exception):
    """Stands for whatever ends a job."""


def train(settings: Stage1, checkpoint=None, stop_at=None, broken_at=None, after_step=None):
    """A small network with batch normalisation and dropout, on noise. Stops, or has a bad loss, at a step."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    inputs = torch.randn(40, 6)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3)).train()
    steps = 0

    def loss(positions, done):
        nonlocal steps
        step = round(done * settings.steps) + 1
        steps += 1
        if step == stop_at:
            raise Stop
        noise = torch.from_numpy(rng.normal(size=(len(positions), 6)).astype(np.float32))
        out = model(inputs[positions] + noise).square().mean()
        return out * float("nan") if broken_at and step >= broken_at else out

    sampler = Sampler(np.arange(40) % 3, 8, settings.sampling, rng)
    hook = (lambda: after_step(model)) if after_step else None
    model, history = optimise(
        model,
        list(model.parameters()),
        settings,
        sampler,
        loss,
        rng,
        warm_up=0.1,
        after_step=hook,
        checkpoint=checkpoint,
    )
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}, history, steps


@pytest.fixture
def checkpoint(tmp_path, monkeypatch) -> Checkpoint:
    """One that is written as often as it can be."""
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 0.0)
    return Checkpoint(tmp_path / "state.pt", "key")


@pytest.mark.parametrize(
    "settings",
    [{}, {"sampling": "class_balanced"}, {"optimizer": "adamw", "ema": 0.9}, {"precision": "bfloat16"}],
    ids=["sgd", "class_balanced", "adamw and averaged", "bfloat16"],
)
def test_interrupted_training_ends_in_the_same_weights(checkpoint, settings):
    settings = Stage1(**SETTINGS, **settings)
    whole, history, _ = train(settings)
    for stop_at in (30, 77, 111):  # before the first checkpoint, after it, after the second
        with pytest.raises(Stop):
            train(settings, checkpoint, stop_at)
    resumed, history_resumed, steps = train(settings, checkpoint)
    assert steps == 30  # of 130: a checkpoint stands at 100
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert history_resumed.equals(history)


def test_what_belongs_to_other_settings_is_not_gone_on_from(checkpoint):
    with pytest.raises(Stop):
        train(Stage1(**SETTINGS), checkpoint, 77)
    *_, steps = train(Stage1(**SETTINGS), Checkpoint(checkpoint.path, "another key"))
    assert steps == 130


def test_a_checkpoint_cut_short_costs_time_only(checkpoint):
    with pytest.raises(Stop):
        train(Stage1(**SETTINGS), checkpoint, 77)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:1000])
    *_, steps = train(Stage1(**SETTINGS), checkpoint)
    assert steps == 130


def test_a_loss_that_is_no_number_keeps_the_last_good_state(checkpoint):
    with pytest.raises(UserError, match=r"nan at step 100; lower learning_rate; .*state\.pt has the last good state"):
        train(Stage1(**SETTINGS), checkpoint, broken_at=60)
    assert checkpoint.load()["step"] == 50
    *_, steps = train(Stage1(**SETTINGS), checkpoint)
    assert steps == 80


def test_averaged_weights_by_hand():
    seen = []
    averaged = train(Stage1(**SETTINGS | {"steps": 5}, ema=0.75), after_step=lambda model: seen.append(bias(model)))[0]
    expected = seen[0]
    for weights in seen[1:]:
        expected = 0.75 * expected + 0.25 * weights
    assert torch.allclose(averaged["3.bias"], expected, atol=1e-6)
    assert not torch.allclose(expected, seen[-1], atol=1e-4)


def bias(model: nn.Module) -> torch.Tensor:
    return model[3].bias.detach().clone()
