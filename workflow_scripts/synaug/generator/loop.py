"""What both training loops share: state that survives a kill, log lines with a speed, a decaying learning rate."""

import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

logger = logging.getLogger(__name__)


@dataclass
class Loop:
    """How long and how fast to train, and the file that lets a killed training go on where it was.

    The file is saved every `save_every_s` seconds. One written with another `fingerprint` (other data or other
    arguments) is ignored.
    """

    name: str
    steps: int
    batch_size: int
    seed: int
    learning_rate: float
    file: Path
    fingerprint: str
    save_every_s: float

    def run(self, parts: dict, one_step: Callable[[int, torch.Generator], torch.Tensor]) -> None:
        """Call `one_step` for every step still to do. It gets the step and its random numbers, and returns the loss.

        parts: objects with `state_dict()` and `load_state_dict()`, which are all that changes from step to step.
        Logs the mean loss, steps/s and the time left: early, then every half minute.
        """
        first = self._load(parts)
        if first:
            logger.info("%s: resumed at step %d of %d", self.name, first, self.steps)
        start = saved = logged = time.monotonic()
        losses: list[float] = []
        for step in range(first, self.steps):
            losses.append(one_step(step, self._random(step)).item())
            done, now = step + 1, time.monotonic()
            if done - first == 20 or now - logged > 30 or done == self.steps:
                speed = (done - first) / (now - start)
                logger.info(
                    "%s: step %d of %d, loss %.4f, %.1f steps/s, %.0f s left",
                    self.name, done, self.steps, sum(losses) / len(losses), speed, (self.steps - done) / speed,
                )  # fmt: skip
                logged, losses = now, []
            if now - saved > self.save_every_s or done == self.steps:
                self._save(parts, done)
                saved = now

    def descend(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer, step: int) -> None:
        """One step downhill; the rate warms up linearly, then follows a cosine to zero."""
        warm_up = max(1, min(500, self.steps // 20))
        rate = self.learning_rate * min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / self.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([weight for group in optimizer.param_groups for weight in group["params"]], 1.0)
        optimizer.step()

    def _random(self, step: int) -> torch.Generator:
        # From nothing but the seed and the step: a resumed training draws the same numbers.
        return torch.Generator().manual_seed((self.seed + 1) * 1_000_000_007 + step)

    def _load(self, parts: dict) -> int:
        if not self.file.exists():
            return 0
        state = torch.load(self.file, map_location="cpu", weights_only=True)
        if state["fingerprint"] != self.fingerprint:
            logger.info("%s: made with other data or settings, starting afresh", self.file)
            return 0
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return state["step"]

    def _save(self, parts: dict, step: int) -> None:
        state = {"fingerprint": self.fingerprint, "step": step}
        state |= {name: part.state_dict() for name, part in parts.items()}
        partial = self.file.with_name(self.file.name + ".partial")
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.file)
