"""The loop that both stages share: schedule, precision, averaged weights, history, and checkpoints to go on from."""

import copy
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path
from synaug.training.parallel import Process
from synaug.training.sampling import Halves, Sampler
from synaug.training.stream import Ahead

log = logging.getLogger(__name__)
MOMENTUM = 0.9
LOG_EVERY = 50  # steps
EARLY = 9  # steps after which the first line says how long it will take
# Short enough to lose little, and long enough to cost nothing; a network that trains faster leaves no checkpoint.
CHECKPOINT_EVERY = 60.0  # seconds


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of an unfinished training is kept. key: hash of all that decides it; another one: not ours."""

    path: str | os.PathLike
    key: str

    def of(self, process: Process) -> "Checkpoint":
        """That of one of several processes, each of which has its own random numbers."""
        if process.count == 1:
            return self
        return Checkpoint(f"{self.path}.{process.rank}", f"{self.key} {process.rank} of {process.count}")

    def load(self) -> dict | None:
        """The state that was saved, or None if there is none that fits."""
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except Exception as error:  # cut short, or of another version: all that is lost is time
            log.warning("%s cannot be read (%s); training begins anew", self.path, error)
            return None
        if state.pop("key", None) != self.key:
            log.info("%s belongs to other settings or images; training begins anew", self.path)
            return None
        return state

    def save(self, state: dict) -> None:
        """Replace what was saved before, atomically."""
        with atomic_path(self.path) as temporary:
            torch.save({"key": self.key, **state}, temporary)

    def forget(self) -> None:
        """The training is done."""
        if os.path.exists(self.path):
            os.unlink(self.path)


def optimise(
    model: nn.Module,
    parameters: Sequence[torch.Tensor],
    settings,
    sampler: Sampler | Halves | Ahead,
    loss_of: Callable[[torch.Tensor, float], torch.Tensor],
    rng: np.random.Generator,
    *,
    warm_up: float = 0.0,
    after_step: Callable[[], None] | None = None,
    checkpoint: Checkpoint | None = None,
    memory: torch.Tensor | None = None,
) -> tuple[nn.Module, pd.DataFrame]:
    """Take `settings.steps` steps with linear warm-up (a share of the steps), then cosine to 0.

    settings: Stage1 or Stage2. loss_of: positions and the share of the steps that are done, to the loss. rng: that
    `loss_of` draws from. after_step: called after each step (a projection of weights). memory: what `loss_of` keeps
    from step to step. Returns the network, with averaged weights if `settings.ema` says so, and rows of the manifest
    `history`. Interrupted and called again with the same `checkpoint` it ends in the same weights.
    Raises UserError if the loss is not a number; the last good checkpoint stays.
    """
    precision = getattr(settings, "precision", "float32")
    decay = getattr(settings, "ema", None)
    device = parameters[0].device
    optimiser = make_optimiser(parameters, settings)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None
    state = checkpoint.load() if checkpoint else None
    rows, first = [], 1
    if state:
        first, rows = state["step"] + 1, state["rows"]
        _restore(state, model, averaged, optimiser, scaler, sampler, rng, memory)
        log.info("going on after step %d", state["step"])
    # On the device: to ask for the loss after every step would make it wait.
    total, start, saved = torch.zeros((), device=device), time.monotonic(), time.monotonic()
    warm = warm_up * settings.steps
    for step in range(first, settings.steps + 1):
        progress = (step - warm) / max(1, settings.steps - warm)
        rate = settings.learning_rate * (step / warm if step < warm else 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32"):
            loss = loss_of(sampler.draw(), (step - 1) / settings.steps)
        optimiser.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        if after_step:
            after_step()
        if averaged:
            averaged.update_parameters(model)
        total += loss.detach().float()
        if step == first + EARLY:
            left = (settings.steps - step) * (time.monotonic() - start) / (EARLY + 1)
            log.info("step %d/%d, loss %.4f, %.0f s left", step, settings.steps, loss.item(), left)
        if step % LOG_EVERY == 0 or step == settings.steps:
            mean = total.item() / (step % LOG_EVERY or LOG_EVERY)
            if not math.isfinite(mean):
                kept = f"; {checkpoint.path} has the last good state" if state else ""
                raise UserError(f"the loss is {mean} at step {step}; lower learning_rate{kept}")
            epoch = step * sampler.batch_size / sampler.count
            rows.append({"step": step, "epoch": epoch, "loss": mean, "learning_rate": rate})
            left = (settings.steps - step) * (time.monotonic() - start) / (step - first + 1)
            log.info("step %d/%d, loss %.4f, learning rate %.4f, %.0f s left", step, settings.steps, mean, rate, left)
            total.zero_()
            # Only here: the loss of these steps was looked at, and no part of a mean has to be kept.
            if checkpoint and step < settings.steps and time.monotonic() - saved >= CHECKPOINT_EVERY:
                state = _state(step, rows, model, averaged, optimiser, scaler, sampler, rng, memory)
                checkpoint.save(state)
                saved = time.monotonic()
    if averaged:
        model.load_state_dict(averaged.module.state_dict())
    return model, pd.DataFrame(rows)


def make_optimiser(parameters: Sequence[torch.Tensor], settings) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW (decoupled weight decay)."""
    if getattr(settings, "optimizer", "sgd") == "adamw":
        return torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        parameters, settings.learning_rate, MOMENTUM, weight_decay=settings.weight_decay, nesterov=True
    )


def _state(step, rows, model, averaged, optimiser, scaler, sampler, rng, memory) -> dict:
    """All that decides how the training goes on."""
    return {
        "step": step,
        "rows": copy.deepcopy(rows),
        "model": model.state_dict(),
        "averaged": averaged.state_dict() if averaged else {},
        "optimiser": optimiser.state_dict(),
        "scaler": scaler.state_dict(),
        "sampler": sampler.state,
        "rng": rng.bit_generator.state,
        "memory": memory,
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def _restore(state, model, averaged, optimiser, scaler, sampler, rng, memory) -> None:
    model.load_state_dict(state["model"])
    if averaged:
        averaged.load_state_dict(state["averaged"])
    optimiser.load_state_dict(state["optimiser"])
    scaler.load_state_dict(state["scaler"])
    sampler.state = state["sampler"]
    rng.bit_generator.state = state["rng"]
    if memory is not None:
        memory.copy_(state["memory"])
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
