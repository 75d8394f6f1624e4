"""When compiling a model pays: the seconds that it saves and costs, from measurements."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

# The resource `compile` of a rule -> `generation.compile`; resources are best whole numbers.
COMPILE_SETTINGS: dict[int, bool | Literal["auto"]] = {0: False, 1: True, 2: "auto"}

# Measured on 2026-11-26 with Stable Diffusion 1.5 at 512 pixels, batches of 32, bfloat16, torch 2.11, on an NVIDIA H100
# with 16 CPU cores, by a program that was not kept, so benchmarks/results/ does not have these figures: the
# first calls of the compiled denoiser (59 s) and decoder (23 s); 20 steps and the decoder take 2.85 s instead of 4.9 s.
FIRST_START_S = 82.0
SPEED_UP = 1.7
# Of a job that finds the compiled code of an earlier one. An assumption, not measured.
LATER_START_S = 20.0


@dataclass(frozen=True)
class CompileCost:
    """What compiling saves and costs in all shards of a plan together, in seconds of one device.

    seconds: of sampling all images without it. saved: of these. start_up: until the jobs are ready to sample.
    """

    images: int
    seconds: float
    saved: float
    start_up: float

    @property
    def pays(self) -> bool:
        """Whether it saves more than it costs."""
        return self.saved > self.start_up

    def __str__(self) -> str:
        """The reason for the decision."""
        return (
            f"compiling saves about {self.saved:,.0f} s of the {self.seconds:,.0f} s that the {self.images:,} images "
            f"take without it, and costs about {self.start_up:,.0f} s"
        )


def compile_cost(plan: pd.DataFrame, model_version: str, seconds: pd.Series) -> CompileCost:
    """The cost of compiling the model `model_version` for its images in all fills of the manifest `plan`.

    plan: columns model_version and shard. seconds: of one device for each image of `plan`, without compiling. The first
    job compiles, and the others find its code. All planned images count, also those that exist: a job that goes on
    after an interruption decides the same. Adapters and schedulers do not count: they do not change the compiled code.
    """
    of_model = plan["model_version"] == model_version
    shards = plan.loc[of_model, "shard"].nunique()
    total = float(seconds[of_model].sum())
    start_up = FIRST_START_S + LATER_START_S * (shards - 1)
    return CompileCost(int(of_model.sum()), total, total * (1 - 1 / SPEED_UP), start_up)


def steps_done(plan: pd.DataFrame) -> pd.Series:
    """The denoising steps of each image of the manifest `plan`. Image-to-image does only the share `strength`."""
    return plan["steps"] * plan["strength"].astype(float).fillna(1.0)
