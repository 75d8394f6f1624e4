"""The state of an unfinished training, from which it continues after an interruption."""

import copy
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from synaug.runtime.errors import UserError, short_text
from synaug.runtime.files import atomic_path, delete_leftovers
from synaug.training.optimizer import Optimizer
from synaug.training.packed import Prefetcher
from synaug.training.parallel import Process
from synaug.training.sampling import Sampler, TwoPhaseSampler

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """The file of the state. key: hash of everything that decides the training; a file with another key is ignored."""

    path: str | os.PathLike
    key: str

    def of_processes(self, count: int) -> "Checkpoint":
        """The checkpoint of a training by `count` processes: one file, which another number of processes ignores."""
        return self if count == 1 else Checkpoint(self.path, f"{self.key} by {count} processes")

    def load(self) -> dict | None:
        """The saved state; None if there is none, if it cannot be read, or if it has another key."""
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except Exception as error:  # incomplete, or written by another version: only time is lost
            log.warning("%s cannot be read (%s); training starts from the beginning", self.path, error)
            return None
        if state.pop("key", None) != self.key:
            log.info("%s has other settings, images or devices; training starts from the beginning", self.path)
            return None
        return state

    def save(self, state: dict) -> None:
        """Replace the saved state, atomically. If that fails, the training goes on: the state only saves time."""
        try:
            # To an open file: if torch opens it, its error does not name the cause.
            with atomic_path(self.path) as temporary, temporary.open("wb") as file:
                torch.save({"key": self.key, **state}, file)
        except (UserError, OSError, RuntimeError) as error:  # RuntimeError: torch
            cause = short_text(error.__cause__ or error)
            log.warning("%s: the state cannot be saved (%s); the training goes on", self.path, cause)

    def delete(self) -> None:
        """Delete the file, when the training has finished, and what killed processes left of it."""
        Path(self.path).unlink(missing_ok=True)
        delete_leftovers(Path(self.path))


@dataclass
class TrainingState:
    """Everything that decides how a training continues. It reads and sets the state of these objects, and of torch.

    averaged: the averaged weights, if there are any. rng: random numbers for augmentation and mixing. loss_state: what
    the loss keeps from batch to batch (the group weights of GroupDRO). process: with several of them, all save and load
    at the same step. The network and its optimiser are the same in all of them, and process 0 saves its own; the random
    states differ, and are saved for each, with the state of the loss.
    """

    model: nn.Module
    averaged: AveragedModel | None
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    sampler: Sampler | TwoPhaseSampler | Prefetcher
    rng: np.random.Generator
    loss_state: torch.Tensor | None
    process: Process

    def save(self, checkpoint: Checkpoint, step: int, history: list[dict]) -> None:
        """Save the state after `step` steps. history: rows of the manifest `history` so far."""
        states = self.process.gather(self._state_of_process())
        if states is None:  # process 0 writes the file
            return
        state = {
            "step": step,
            "history": copy.deepcopy(history),
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else {},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        checkpoint.save(state | (states[0] if len(states) == 1 else {"processes": states}))

    def load(self, checkpoint: Checkpoint) -> dict | None:
        """Continue from the saved state. Returns it, with its `step` and `history`; None if there is none to use.

        Process 0 decides whether it can be used. Raises UserError if another process then cannot read it.
        """
        state = checkpoint.load() if self.process.rank == 0 else None
        step = self.process.value_of_first(state and state["step"])
        if step is None:
            return None
        if self.process.rank > 0:
            state = checkpoint.load()
        if state is None or state["step"] != step:
            raise UserError(
                f"{checkpoint.path}: process {self.process.rank} does not read the state that process 0 reads",
                advice="run again",
            )
        self.model.load_state_dict(state["model"])
        if self.averaged:
            self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self._load_state_of_process(state["processes"][self.process.rank] if self.process.world_size > 1 else state)
        return state

    def _state_of_process(self) -> dict:
        device = torch.device(self.process.device)
        return {
            "sampler": self.sampler.state_dict(),
            "rng": self.rng.bit_generator.state,
            # On the CPU: process 0 may not use the devices of the others.
            "loss_state": None if self.loss_state is None else self.loss_state.cpu(),
            "torch": torch.get_rng_state(),
            # Of its device only: a training may continue on another one.
            "cuda": [torch.cuda.get_rng_state(device)] if device.type == "cuda" else [],
        }

    def _load_state_of_process(self, state: dict) -> None:
        self.sampler.load_state_dict(state["sampler"])
        self.rng.bit_generator.state = state["rng"]
        if self.loss_state is not None:
            self.loss_state.copy_(state["loss_state"])
        torch.set_rng_state(state["torch"])
        if state["cuda"]:
            torch.cuda.set_rng_state(state["cuda"][0], self.process.device)
