"""The state of a generator's training: any seed, a damaged file, and a disk without space."""

import errno
import math

import pytest
import torch

from synaug.generator.loop import TrainingLoop
from synaug.runtime.errors import UserError
from synaug.training.checkpoint import Checkpoint


def train(file, steps: int, seed: int = 0) -> list[float]:
    """The random numbers of the steps that are done."""
    drawn = []
    loop = TrainingLoop("test", steps, 2, seed, 0.1, file, "fingerprint", 0.0)

    def train_step(step: int, random: torch.Generator) -> torch.Tensor:
        drawn.append(torch.rand((), generator=random).item())
        return torch.tensor(1.0)

    loop.run({"model": torch.nn.Linear(1, 1)}, train_step)
    return drawn


@pytest.mark.parametrize("seed", [20_000_000_000, 2**62])
def test_any_seed_of_the_config_trains_and_draws_other_numbers(tmp_path, seed):
    numbers = train(tmp_path / "state.pt", 3, seed)
    assert len(set(numbers)) == 3
    assert numbers != train(tmp_path / "other.pt", 3, seed + 1)


def test_the_numbers_of_small_seeds_are_those_of_earlier_versions(tmp_path):
    expected = torch.rand((), generator=torch.Generator().manual_seed(8 * 1_000_000_007)).item()
    assert train(tmp_path / "state.pt", 1, 7) == [expected]


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_training_and_is_not_saved(tmp_path, wrong):
    steps = []

    def train_step(step: int, random: torch.Generator) -> torch.Tensor:
        steps.append(step)
        return torch.tensor(wrong if step == 2 else 1.0)

    loop = TrainingLoop("denoiser", 5, 2, 0, 0.1, tmp_path / "state.pt", "fingerprint", 0.0)
    with pytest.raises(UserError, match=r"^denoiser: the loss is not finite at step 3 of 5; \S+ .*batch_size") as error:
        loop.run({"model": torch.nn.Linear(1, 1)}, train_step)
    assert "\n" not in str(error.value)
    assert steps == [0, 1, 2]
    assert torch.load(tmp_path / "state.pt")["step"] == 2


@pytest.mark.parametrize("length", [0, 10, -10])
def test_a_truncated_state_is_named_and_the_training_starts_again(tmp_path, caplog, length):
    file = tmp_path / "state.pt"
    numbers = train(file, 3)
    assert train(file, 3) == []
    file.write_bytes(file.read_bytes()[:length])
    assert train(file, 3) == numbers
    assert f"{file}: cannot be read" in caplog.text


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("write failed")])
def test_a_state_that_cannot_be_saved_does_not_end_the_training(tmp_path, caplog, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(torch, "save", fail)
    assert len(train(tmp_path / "state.pt", 3)) == 3
    Checkpoint(tmp_path / "stage1.pt", "key").save({"step": 1})
    for name in ("state.pt", "stage1.pt"):
        assert f"{tmp_path / name}: the state cannot be saved" in caplog.text
    assert list(tmp_path.iterdir()) == []
