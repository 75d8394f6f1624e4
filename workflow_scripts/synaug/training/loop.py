"""The training loop that both stages share."""

import logging
import math
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import nn

from synaug.networks.ema import EMA
from synaug.runtime.errors import UserError
from synaug.training.checkpoint import Checkpoint, TrainingState
from synaug.training.optimizer import Optimizer
from synaug.training.packed import Prefetcher
from synaug.training.parallel import Process
from synaug.training.sampling import Sampler, TwoPhaseSampler

log = logging.getLogger(__name__)
LOG_EVERY = 50  # steps
FIRST_ESTIMATE = 10  # steps after which a first log line estimates the time left
# Short enough to lose little, long enough to cost nothing. A network that is trained faster leaves no checkpoint.
CHECKPOINT_EVERY = 60.0  # seconds

_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}

EMPTY_HISTORY = pd.DataFrame(columns=["step", "epoch", "loss", "learning_rate"], dtype=float)


def training_loop(
    model: nn.Module,
    optimizer: Optimizer,
    sampler: Sampler | TwoPhaseSampler | Prefetcher,
    compute_loss: Callable[[torch.Tensor, int], torch.Tensor],
    rng: np.random.Generator,
    *,
    steps: int,
    warm_up: float = 0.0,
    precision: str = "float32",
    ema: float | None = None,
    after_step: Callable[[], None] | None = None,
    checkpoint: Checkpoint | None = None,
    loss_state: torch.Tensor | None = None,
    process: Process | None = None,
) -> pd.DataFrame:
    """Train `model` in place for `steps` steps. Returns rows of the manifest `history`.

    optimizer: its learning rate is the peak of the schedule, see `scheduled_rate`; that of a parameter group with the
    key `factor` is multiplied by it. compute_loss: maps the positions of a batch and the number of steps before it to
    the loss, which is the mean over the processes if there are several. rng: the random numbers of `compute_loss`.
    warm_up: share of the steps. precision: of the forward pass; tf32 as float32, see `gpu_arithmetic`. ema: largest
    decay per step of the averaged weights, which the model gets at the end (see `EMA`); None: no averaging. after_step:
    called after every step. loss_state: a tensor that `compute_loss` changes from step to step. process: one of several
    processes that train `model` together; None: there is only one.
    If the loop is interrupted and called again with the same `checkpoint`, it ends with the same weights; on a GPU only
    with deterministic algorithms, see `gpu_arithmetic`.
    Raises UserError if the loss is not finite; the last good checkpoint is kept.
    """
    device = optimizer.param_groups[0]["params"][0].device
    peak_rate = optimizer.defaults["lr"]
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
    averaged = EMA(model, ema, use_buffers=True) if ema else None
    process = process or Process(str(device))
    checkpoint = checkpoint.of_processes(process.world_size) if checkpoint else None
    state = TrainingState(model, averaged, optimizer, scaler, sampler, rng, loss_state, process)
    history: list[dict] = []
    first_step = 1
    continued = state.load(checkpoint) if checkpoint else None
    if continued:
        history = continued["history"]
        first_step = continued["step"] + 1
        log.info("continuing after step %d", continued["step"])
    saved = continued is not None
    # Summed on the device: reading the loss after every step would make the device wait.
    loss_sum = torch.zeros((), device=device)
    started = last_saved = time.monotonic()

    def seconds_left(step: int) -> float:
        return (steps - step) * (time.monotonic() - started) / (step - first_step + 1)

    for step in range(first_step, steps + 1):
        rate = scheduled_rate(peak_rate, step, steps, warm_up * steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        with torch.autocast(device.type, _AUTOCAST.get(precision), enabled=precision in _AUTOCAST):
            loss = compute_loss(sampler.draw(), step - 1)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if after_step:
            after_step()
        if averaged:
            averaged.update_parameters(model)
        loss_sum += loss.detach().float()

        if step - first_step + 1 == FIRST_ESTIMATE:
            log.info("step %d/%d, loss %.4f, %.0f s left", step, steps, process.mean(loss).item(), seconds_left(step))
        if step % LOG_EVERY == 0 or step == steps:
            mean_loss = process.mean(loss_sum).item() / (step % LOG_EVERY or LOG_EVERY)
            loss_sum.zero_()
            if not math.isfinite(mean_loss):
                kept = f"; {checkpoint.path} has the last good state" if saved else ""
                raise UserError(f"the loss is {mean_loss} at step {step}", advice=f"lower learning_rate{kept}")
            epoch = step * sampler.batch_size / sampler.image_count
            history.append({"step": step, "epoch": epoch, "loss": mean_loss, "learning_rate": rate})
            line = "step %d/%d, loss %.4f, learning rate %.4f, %.0f s left"
            log.info(line, step, steps, mean_loss, rate, seconds_left(step))
            # Only here: the losses up to this step are known to be finite, and no partial sum has to be saved.
            # Several processes save the same step: the clock of process 0 decides. Here all of them wait anyway.
            due = time.monotonic() - last_saved >= CHECKPOINT_EVERY
            if checkpoint and step < steps and process.value_of_first(due):
                state.save(checkpoint, step, history)
                saved = True
                last_saved = time.monotonic()
    if averaged:
        model.load_state_dict(averaged.module.state_dict())
    return pd.DataFrame(history)


def scheduled_rate(peak: float, step: int, steps: int, warm_up_steps: float) -> float:
    """Learning rate at `step` (1 to `steps`): linear from 0 to `peak` in the warm-up, then a cosine to 0."""
    if step < warm_up_steps:
        return peak * (step / warm_up_steps)
    progress = (step - warm_up_steps) / max(1, steps - warm_up_steps)
    return peak * (0.5 * (1 + math.cos(math.pi * progress)))
