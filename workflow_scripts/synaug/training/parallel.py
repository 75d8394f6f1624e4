"""One network on several devices: a process each, every one with its share of each batch (data parallel, DDP)."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Process:
    """One of `count` processes that train a network together. rank: which one. device: that it has to itself."""

    device: str
    rank: int = 0
    count: int = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """What to call instead of `model`, so that gradients are averaged over the processes."""
        if self.count == 1:
            return model
        from accelerate import Accelerator

        return Accelerator(cpu=self.device == "cpu").prepare_model(model)

    def share(self, positions: torch.Tensor) -> torch.Tensor:
        """This process's part of a batch, which all of them have drawn alike."""
        return positions if self.count == 1 else positions.tensor_split(self.count)[self.rank]

    def random(self, seed: int) -> np.random.Generator:
        """Numbers for augmentation: others in every process."""
        return np.random.default_rng(seed if self.count == 1 else [seed, self.rank])


def run_on(devices: list[str], function: Callable, *arguments) -> str:
    """Call `function(process, *arguments)` in one process per device, or here if there is only one.

    What it returns is lost: it writes files, in the process of rank 0. Returns the name that the first device has from
    now on.
    """
    if len(devices) == 1:
        function(Process(devices[0]), *arguments)
        return devices[0]
    if devices[0].startswith("cuda"):
        from accelerate import notebook_launcher

        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        numbers = [int(device.partition(":")[2]) for device in devices]
        chosen = ",".join(visible[number] if visible != [""] else str(number) for number in numbers)
        os.environ["CUDA_VISIBLE_DEVICES"] = chosen  # of this job alone, before CUDA is used
        notebook_launcher(_call, (function, "cuda", len(devices), *arguments), len(devices), use_port="0")
        return "cuda:0"
    from accelerate import debug_launcher  # it is for CPUs

    debug_launcher(_call, (function, "cpu", len(devices), *arguments), len(devices))
    return "cpu"


def _call(function: Callable, kind: str, count: int, *arguments) -> None:
    from accelerate import PartialState

    state = PartialState(cpu=kind == "cpu")
    device = str(state.device) if kind == "cuda" else "cpu"
    try:
        function(Process(device, state.process_index, count), *arguments)
    finally:
        state.destroy_process_group()
