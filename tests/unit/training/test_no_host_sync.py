"""A training step does not make the CPU wait for the GPU: it reads no value from the device, and queues its copies.

No GPU is needed to show this: the step runs on the CPU, and each operation that would wait for a GPU is an error.
"""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from synaug.config import CutMix, Loss, Mixup, Stage1, Stage2
from synaug.training import augmentation, data, mixing, stage1, stage2, transfer
from training_sets import SIDES, spurious_brightness

# Their results, or the shapes of their results, depend on values: the CPU has to read these from the device.
WAITS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Waits(Exception):
    """The step would wait for the device."""


class NoWaiting(TorchDispatchMode):
    """Operations that would wait for a GPU raise `Waits`, those of autograd too."""

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        waits = bool(WAITS & set(operation.tags))
        if operation is torch.ops.aten.index.Tensor:  # only with a mask
            waits = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in arguments[1])
        if waits:
            raise Waits(str(operation))
        return operation(*arguments, **(keywords or {}))


@pytest.fixture
def no_waiting(monkeypatch):
    """Within `with no_waiting():` what would wait raises `Waits`. Only `to_device` may copy."""
    move, copying = torch.Tensor.to, []

    def to_device(values, device):
        copying.append(True)
        try:
            return transfer.to_device(values, device)
        finally:
            copying.pop()

    def to(tensor, *arguments, **keywords):
        if not copying and ("device" in keywords or isinstance((*arguments, None)[0], str | torch.device)):
            raise Waits("Tensor.to")
        return move(tensor, *arguments, **keywords)

    def cpu(tensor):
        raise Waits("Tensor.cpu")

    @contextmanager
    def guard():
        with monkeypatch.context() as patch, NoWaiting():
            patch.setattr(torch.Tensor, "to", to)
            patch.setattr(torch.Tensor, "cpu", cpu)
            yield

    for module in (augmentation, data, mixing, stage1, stage2):
        monkeypatch.setattr(module, "to_device", to_device)
    return guard


def guard_steps(monkeypatch, module, no_waiting) -> list[int]:
    """Let the training loop of `module` take steps under `no_waiting`. Returns a list that holds the steps taken."""
    taken = []

    def loop(model, optimizer, sampler, compute_loss, rng, *, steps, after_step=None, **settings):
        for step in range(steps):
            positions = sampler.draw()
            with no_waiting():
                compute_loss(positions, step).backward()
                optimizer.step()
                if after_step:
                    after_step()
            taken.append(step)

    monkeypatch.setattr(module, "training_loop", loop)
    return taken


SETTINGS = Stage1(width=4, steps=3, batch_size=16)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"crop_area": 0.3},
        {"mixup": Mixup(alpha=0.2, pairing="real_synthetic"), "sampling": "class_balanced"},
        {"cutmix": CutMix(alpha=1.0), "synthetic_first": 0.5},
        {"loss": Loss(name="focal"), "class_weights": "effective", "deferred": 0.5},
        {"loss": Loss(name="ldam"), "head": "cosine"},
        {"loss": Loss(name="logit_adjustment"), "synthetic_weight": 0.5},
        {"group_dro": 0.1, "sampling": "group_balanced"},
    ],
    ids=lambda change: "-".join(change) or "default",
)
def test_a_step_of_stage_1_does_not_wait(change, no_waiting, monkeypatch):
    images = spurious_brightness((40, 5, 5, 40))
    images.synthetic[::3] = True
    taken = guard_steps(monkeypatch, stage1, no_waiting)
    stage1.train_stage1(images, SIDES, SETTINGS.model_copy(update=change), 0)
    assert taken == [0, 1, 2]


@pytest.mark.parametrize("change", [{"max_norm": 1.0}, {"method": "scale"}], ids=str)
def test_a_step_of_stage_2_does_not_wait(change, no_waiting, monkeypatch):
    images = spurious_brightness((20, 20, 20, 20))
    model, _ = stage1.train_stage1(images, SIDES, SETTINGS, 0)
    taken = guard_steps(monkeypatch, stage2, no_waiting)
    stage2.finetune_stage2(model, images, Stage2(steps=3, **change), SETTINGS, 0, np.array([40.0, 40.0]))
    assert taken == [0, 1, 2]


@pytest.mark.parametrize(
    "waiting",
    [
        lambda values: values.sum().item(),
        lambda values: values[values > 0],
        lambda values: values.nonzero(),
        lambda values: torch.bincount(values),
        lambda values: bool((values > 0).any()),
        lambda values: values.cpu(),
        lambda values: torch.arange(3).to(values.device),
    ],
)
def test_what_would_wait_is_noticed(waiting, no_waiting):
    values = torch.arange(5)
    with pytest.raises(Waits), no_waiting():
        waiting(values)
