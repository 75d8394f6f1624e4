"""Data-parallel training of one network: one process per device, each with its part of every batch (DDP)."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Process:
    """One of `world_size` processes that train a network together. rank: its number. device: its own device."""

    device: str
    rank: int = 0
    world_size: int = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """`model` for the forward pass. With several processes, its gradients are averaged over all of them."""
        if self.world_size == 1:
            return model
        from accelerate import Accelerator

        return Accelerator(cpu=self.device == "cpu").prepare_model(model)

    def part_of(self, batch: torch.Tensor) -> torch.Tensor:
        """This process's part of a batch that all processes have drawn alike."""
        return batch if self.world_size == 1 else batch.tensor_split(self.world_size)[self.rank]

    def random_generator(self, seed: int) -> np.random.Generator:
        """Random numbers for augmentation, different in every process."""
        return np.random.default_rng(seed if self.world_size == 1 else [seed, self.rank])


def run_on(devices: list[str], function: Callable, *arguments) -> str:
    """Call `function(process, *arguments)` in one process per device, or in this process if there is only one device.

    Return values are lost; `function` writes its result to files, in the process of rank 0. Returns the name of the
    first device in this process, which may have changed.
    """
    if len(devices) == 1:
        function(Process(devices[0]), *arguments)
        return devices[0]
    if devices[0].startswith("cuda"):
        from accelerate import notebook_launcher

        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        numbers = [int(device.partition(":")[2]) for device in devices]
        chosen = ",".join(visible[number] if visible != [""] else str(number) for number in numbers)
        os.environ["CUDA_VISIBLE_DEVICES"] = chosen  # only for this job, before CUDA is used
        notebook_launcher(_call_as_process, (function, "cuda", len(devices), *arguments), len(devices), use_port="0")
        return "cuda:0"
    from accelerate import debug_launcher  # starts processes on CPUs

    debug_launcher(_call_as_process, (function, "cpu", len(devices), *arguments), len(devices))
    return "cpu"


def _call_as_process(function: Callable, device_type: str, world_size: int, *arguments) -> None:
    from accelerate import PartialState

    state = PartialState(cpu=device_type == "cpu")
    device = str(state.device) if device_type == "cuda" else "cpu"
    try:
        function(Process(device, state.process_index, world_size), *arguments)
    finally:
        state.destroy_process_group()
