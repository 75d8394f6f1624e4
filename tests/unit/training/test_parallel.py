"""Two processes train one network, started as on two GPUs: same weights in both, also if one was killed in between.

They optimise the same function as one process.
"""

import dataclasses
import math
import os
import re
import signal
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from synaug.config import Mixup, RandAugment, Stage1
from synaug.networks.classifier import load_classifier, save_classifier
from synaug.runtime.errors import UserError
from synaug.training import loop, mixing
from synaug.training.checkpoint import Checkpoint
from synaug.training.parallel import Process, run_on
from synaug.training.stage1 import train_stage1
from training_sets import SIDES, same_weights, spurious_brightness

TWO = ["cpu", "cpu"]
# Every random state differs between the processes.
SETTINGS = Stage1(
    width=4, steps=10, batch_size=16, learning_rate=0.05, devices=2, group_dro=0.1, randaugment=RandAugment(), ema=0.9
)


def train(process: Process, out: str, checkpoint: Checkpoint | None = None, kill_at: int | None = None) -> None:
    """Train, and write the network of every process. kill_at: step at which process 1 is killed."""
    torch.set_num_threads(1)
    if checkpoint:
        # By its own clock, process 1 would never save.
        loop.CHECKPOINT_EVERY, loop.LOG_EVERY = (0.0 if process.rank == 0 else math.inf), 2
    if kill_at and process.rank == 1:
        scheduled_rate = loop.scheduled_rate

        def rate_or_kill(peak, step, *arguments):
            if step == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return scheduled_rate(peak, step, *arguments)

        loop.scheduled_rate = rate_or_kill
    model, _ = train_stage1(spurious_brightness(), SIDES, SETTINGS, 0, checkpoint, process)
    save_classifier(model, f"{out}.{process.rank}")


def state(path: str) -> dict[str, torch.Tensor]:
    return load_classifier(path).state_dict()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> str:
    out = str(tmp_path_factory.mktemp("whole") / "model")
    run_on(TWO, train, out)
    return out


def test_both_processes_end_in_the_same_network(whole):
    assert same_weights(state(f"{whole}.0"), state(f"{whole}.1"))  # with the statistics of batch normalisation


def test_a_training_whose_process_is_killed_continues_to_the_same_weights(whole, tmp_path, capfd):
    checkpoint = Checkpoint(tmp_path / "state.pt", "key")
    with pytest.raises(UserError, match=r"the process that trains on cpu was killed \(SIGKILL\); .*run again"):
        run_on(TWO, train, str(tmp_path / "model"), checkpoint, 7)
    assert checkpoint.path.exists()
    capfd.readouterr()
    run_on(TWO, train, str(tmp_path / "model"), checkpoint)
    # Once, in the log of process 0. It may have been ended while it saved step 6.
    assert len(re.findall("continuing after step [46]", capfd.readouterr().err)) == 1
    assert same_weights(state(f"{whole}.0"), state(str(tmp_path / "model.0")))
    assert same_weights(state(f"{whole}.0"), state(str(tmp_path / "model.1")))


def test_one_device_trains_in_this_process(tmp_path):
    run_on(["cpu"], train, str(tmp_path / "model"))
    alone, _ = train_stage1(spurious_brightness(), SIDES, SETTINGS, 0)
    assert same_weights(state(str(tmp_path / "model.0")), alone.state_dict())


def test_sync_batch_norm_on_a_cpu_is_an_error_before_the_training():
    with pytest.raises(UserError, match=r"sync_batch_norm: true needs NVIDIA GPUs.* cpu; set sync_batch_norm: false"):
        train_stage1(spurious_brightness(), SIDES, SETTINGS.model_copy(update={"sync_batch_norm": True}), 0)


# Every batch has all images, so that the random order makes no difference; and no batch normalisation, which uses the
# statistics of a part of the batch.
ALL_IMAGES = Stage1(backbone="timm/test_vit", steps=4, batch_size=200, learning_rate=0.05, shift=0, flip=False)
WITH_WEIGHTS = {"plain": {}, "mixed": {"mixup": Mixup(alpha=1.0)}, "group_dro": {"group_dro": 1.0}}


def train_with_weights(process: Process, folder: Path) -> None:
    """Train a network by each of WITH_WEIGHTS on images of very different weights; process 0 writes them."""
    torch.set_num_threads(1)
    data = spurious_brightness((30, 3, 3, 30))
    images = data.images.repeat_interleave(3, 2).repeat_interleave(3, 3)[:, :, 2:34, 2:34]
    weights = torch.full((len(data),), 0.5)
    weights[[0, 31]] = 50.0
    data = dataclasses.replace(data, images=images, weights=weights)
    for name, change in WITH_WEIGHTS.items():
        # Each image is mixed with itself: partners and shares are random, and others in every process.
        with patch.object(mixing, "draw_partners", lambda synthetic, pairing, rng: np.arange(len(synthetic))):
            model, history = train_stage1(data, SIDES, ALL_IMAGES.model_copy(update=change), 0, None, process)
        if process.rank == 0:
            save_classifier(model, folder / name)
            history.to_csv(folder / f"{name}.csv")


@pytest.fixture(scope="module")
def by_one_and_by_two(tmp_path_factory) -> tuple[Path, Path]:
    folders = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for devices, folder in zip((["cpu"], TWO), folders, strict=True):
        run_on(devices, train_with_weights, folder)
    return folders


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_two_devices_train_the_network_that_one_device_trains(name, by_one_and_by_two):
    one, two = (state(str(folder / name)) for folder in by_one_and_by_two)
    assert max((one[key] - two[key]).abs().max().item() for key in one) < 1e-4
    losses = [np.loadtxt(folder / f"{name}.csv", delimiter=",", skiprows=1) for folder in by_one_and_by_two]
    assert np.allclose(*losses, atol=1e-4)
