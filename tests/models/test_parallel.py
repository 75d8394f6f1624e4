"""Two processes train one network: the same on both, the same each time, also after an interruption."""

import numpy as np
import pytest
import torch

from synaug.config import Stage1
from synaug.networks.classifier import load_classifier, save_classifier
from synaug.training import loop
from synaug.training.checkpoint import Checkpoint
from synaug.training.data import TrainingSet
from synaug.training.parallel import Process, run_on
from synaug.training.stage1 import train_stage1
from training_sets import same_weights

SETTINGS = Stage1(width=4, steps=10, batch_size=16, learning_rate=0.05, devices=2)


def data() -> TrainingSet:
    rng = np.random.default_rng(0)
    labels = torch.arange(60) % 3
    images = torch.from_numpy(rng.integers(0, 60, (60, 1, 12, 12))) + 90 * labels[:, None, None, None]
    return TrainingSet(images.to(torch.uint8), labels, labels > 5, torch.ones(60))


def train(process: Process, out: str, checkpoint: Checkpoint | None, stop: bool) -> None:
    torch.set_num_threads(1)
    if checkpoint:
        loop.CHECKPOINT_EVERY, loop.LOG_EVERY = 0.0, 2
        checkpoint = checkpoint.of_process(process)
    if stop:
        save = Checkpoint.save

        def save_and_leave(self, state):
            save(self, state)
            if state["step"] == 4:
                raise SystemExit

        Checkpoint.save = save_and_leave
    model, _ = train_stage1(data(), ["a", "b", "c"], SETTINGS, 0, checkpoint, process)
    save_classifier(model, f"{out}.{process.rank}")


def weights(path: str) -> dict[str, torch.Tensor]:
    return dict(load_classifier(path).named_parameters())


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> str:
    out = str(tmp_path_factory.mktemp("whole") / "model")
    assert run_on(["cpu", "cpu"], train, out, None, False) == "cpu"
    return out


def test_both_processes_end_in_the_same_weights_and_again(whole, tmp_path):
    assert same_weights(weights(f"{whole}.0"), weights(f"{whole}.1"))
    run_on(["cpu", "cpu"], train, str(tmp_path / "again"), None, False)
    assert same_weights(weights(f"{whole}.0"), weights(str(tmp_path / "again.0")))


def test_an_interrupted_training_ends_in_the_same_weights(whole, tmp_path):
    checkpoint = Checkpoint(tmp_path / "state.pt", "key")
    run_on(["cpu", "cpu"], train, str(tmp_path / "model"), checkpoint, True)
    assert not (tmp_path / "model.0").exists() and (tmp_path / "state.pt.1").exists()
    run_on(["cpu", "cpu"], train, str(tmp_path / "model"), checkpoint, False)
    assert same_weights(weights(f"{whole}.0"), weights(str(tmp_path / "model.0")))


def test_one_device_trains_in_this_process(tmp_path):
    assert run_on(["cpu"], train, str(tmp_path / "model"), None, False) == "cpu"
    assert (tmp_path / "model.0").exists()
