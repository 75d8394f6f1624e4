"""The training loop of autoencoder, denoiser and adapter: resumable state, speed in the log, learning rates."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from synaug.runtime.errors import UserError, short_text
from synaug.runtime.files import atomic_path

log = logging.getLogger(__name__)


def random_of_step(seed: int, step: int) -> torch.Generator:
    """The random numbers of a step (from 0). They depend on nothing else: a resumed training draws the same ones."""
    return torch.Generator().manual_seed(((seed + 1) * 1_000_000_007 + step) % 2**64)


@dataclass
class TrainingLoop:
    """How long and how fast to train, and the state file from which a killed training continues.

    `file` is saved every `save_every_s` seconds. A file with another `fingerprint` (other data or other arguments) is
    ignored. The learning rate rises for a twentieth of the steps, `max_warm_up` at most.
    """

    name: str
    steps: int
    batch_size: int
    seed: int
    learning_rate: float
    file: Path
    fingerprint: str
    save_every_s: float
    max_warm_up: int = 500

    def run(self, parts: dict, train_step: Callable[[int, torch.Generator], torch.Tensor]) -> None:
        """Call `train_step` for every step that is left, with the step and its random numbers; it returns the loss.

        parts: the objects whose state changes from step to step, with `state_dict()` and `load_state_dict()`.
        Logs the mean loss, steps/s and the time left: after 20 steps, then every half minute. Raises UserError if the
        loss is not finite.
        """
        first = self._load(parts)
        if first:
            log.info("%s: resumed at step %d of %d", self.name, first, self.steps)
        start = saved = logged = time.monotonic()
        losses: list[float] = []
        for step in range(first, self.steps):
            losses.append(train_step(step, random_of_step(self.seed, step)).item())
            if not math.isfinite(losses[-1]):  # of an adapter, its step says so first
                raise UserError(
                    f"{self.name}: the loss is not finite at step {step + 1} of {self.steps}",
                    advice="train with another generator.batch_size or another seed",
                )
            done, now = step + 1, time.monotonic()
            if done - first == 20 or now - logged > 30 or done == self.steps:
                speed = (done - first) / (now - start)
                log.info(
                    "%s: step %d of %d, loss %.4f, %.1f steps/s, %.0f s left",
                    self.name, done, self.steps, sum(losses) / len(losses), speed, (self.steps - done) / speed,
                )  # fmt: skip
                logged, losses = now, []
            if now - saved > self.save_every_s or done == self.steps:
                self._save(parts, done)
                saved = now

    def optimizer_step(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer, step: int) -> None:
        """One optimiser step down the gradient of `loss`."""
        optimizer.zero_grad()
        loss.backward()
        self.apply_gradients(optimizer, step)

    def apply_gradients(
        self, optimizer: torch.optim.Optimizer, step: int, scaler: torch.amp.GradScaler | None = None
    ) -> None:
        """One optimiser step with the gradients that the weights have, clipped to norm 1.

        scaler: that scaled the loss; it leaves a step out whose gradients are not finite.
        """
        for group in optimizer.param_groups:
            group["lr"] = self.rate(step)
        if scaler is not None:
            scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_([weight for group in optimizer.param_groups for weight in group["params"]], 1.0)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()

    def rate(self, step: int) -> float:
        """The learning rate of `step` (from 0): it rises linearly, and falls as a cosine to zero."""
        warm_up = max(1, min(self.max_warm_up, self.steps // 20))
        return self.learning_rate * min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def _load(self, parts: dict) -> int:
        if not self.file.exists():
            return 0
        try:
            state = torch.load(self.file, map_location="cpu", weights_only=True)
        except Exception as error:  # incomplete, or written by another version: only time is lost
            log.warning("%s: cannot be read (%s); training starts from the beginning", self.file, short_text(error))
            return 0
        if state["fingerprint"] != self.fingerprint:
            log.info("%s: ignored, it belongs to other data or settings; training starts from the beginning", self.file)
            return 0
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return state["step"]

    def _save(self, parts: dict, step: int) -> None:
        state = {"fingerprint": self.fingerprint, "step": step}
        state |= {name: part.state_dict() for name, part in parts.items()}
        try:
            # To an open file: if torch opens it, its error does not name the cause.
            with atomic_path(self.file) as temporary, temporary.open("wb") as file:
                torch.save(state, file)
        except (UserError, OSError, RuntimeError) as error:  # RuntimeError: torch
            cause = short_text(error.__cause__ or error)
            log.warning("%s: the state cannot be saved (%s); the training goes on", self.file, cause)
