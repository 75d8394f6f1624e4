"""Compile the denoiser and the decoder of a pipeline, where that pays.

The two are what sampling consists of, and each is compiled as a whole: on an H100 that gains a factor of 1.7, the
repeated blocks of the denoiser alone a tenth.
"""

import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from synaug.generation.batch_size import with_few_steps
from synaug.generation.sampling import BATCH_COLUMNS, sample
from synaug.manifests import read_manifest
from synaug.plan.compiling import CompileCost, compile_cost, steps_done
from synaug.runtime.devices import device_name
from synaug.runtime.errors import short_text
from synaug.runtime.files import atomic_path, cache_folder

log = logging.getLogger(__name__)

# The kind of device on which `auto` may compile.
_AUTO_DEVICE = "cuda"


def compile_if_wanted(
    pipeline,
    rows: pd.DataFrame,
    batch_size: int,
    sources: Mapping[str, np.ndarray] | None,
    *,
    compile: bool | Literal["auto"],
    device: str,
    plan: Path | None,
    shard: pd.DataFrame,
    decision: Path,
) -> bool:
    """Compile `pipeline` if `compile` says so, or with `auto` if that pays. Returns whether it is compiled.

    rows: those that will be sampled. shard: all rows of the shard with this model. plan: the manifest whose images
    count; None: `shard` alone. decision: a file that keeps what was decided with `auto`, since compiling changes the
    last bits of an image: a job that continues after an interruption samples as before.
    """
    automatic = compile == "auto"
    if not compile or (automatic and not device.startswith(_AUTO_DEVICE)):
        return False
    if not automatic:
        return compile_pipeline(pipeline, rows, batch_size, sources)
    if decision.exists():
        wanted = decision.read_text() == "compiled"
        log.info("the model is %s, as before the interruption", "compiled" if wanted else "not compiled")
    else:
        cost = cost_on_this_device(pipeline, shard, batch_size, sources, plan)
        wanted = cost.pays
        log.info("generation.compile: auto: the model is %s: %s", "compiled" if wanted else "not compiled", cost)
    compiled = wanted and compile_pipeline(pipeline, rows, batch_size, sources)
    with atomic_path(decision) as temporary:
        temporary.write_text("compiled" if compiled else "not compiled")
    return compiled


def cost_on_this_device(
    pipeline, shard: pd.DataFrame, batch_size: int, sources: Mapping[str, np.ndarray] | None, plan: Path | None
) -> CompileCost:
    """What compiling costs and saves for all images of the model of `shard` in the manifest `plan` (None: `shard`).

    A short trial measures how long the images take without it: the row of `shard` with the most steps, in a full batch,
    with two and with four steps.
    """
    planned = shard.assign(shard="")
    if plan is not None:
        planned = read_manifest("plan", plan, ["model_version", "shard", "steps", "strength"])
    row, times = shard.iloc[[shard["steps"].argmax()]], []
    for few in (2, 2, 4):  # the first batch is slower: it allocates memory and loads kernels
        trial = with_few_steps(row, few)
        start = time.perf_counter()
        [(batch, _)] = sample(pipeline, trial, batch_size, sources)
        batch_size = int(batch["batch_size"].iloc[0])  # halved if memory is short
        times.append((float(steps_done(trial).iloc[0]), (time.perf_counter() - start) / batch_size))
    (few, seconds), (more, more_seconds) = times[1:]
    # A model for one or two steps may refuse more: it is timed with its number of steps.
    per_step = max(0.0, (more_seconds - seconds) / (more - few)) if more > few else 0.0
    beyond_steps = max(0.0, seconds - few * per_step)
    return compile_cost(planned, row["model_version"].iloc[0], beyond_steps + per_step * steps_done(planned))


def compile_pipeline(
    pipeline, rows: pd.DataFrame, batch_size: int, sources: Mapping[str, np.ndarray] | None = None
) -> bool:
    """Compile the denoiser and the decoder of `pipeline` for batches of `rows`. Returns whether that succeeded.

    The arguments are those of `sampling.sample`. One batch of a few steps is sampled and discarded for each setting in
    `rows`, since the compiler starts with the first call. If it fails, the pipeline is as it was before, and a warning
    in the log says why.
    """
    settings = rows.drop_duplicates(BATCH_COLUMNS)
    # A batch is halved, down to one image, whenever memory runs out.
    _allow_shapes(len(settings) * batch_size.bit_length())
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    _keep_code_between_jobs(str(denoiser.device))
    functions = [(denoiser, "forward"), (pipeline.vae, "decode")]
    start = time.monotonic()
    try:
        for part, name in functions:
            # Every batch has the same shape, also the last one.
            setattr(part, name, torch.compile(getattr(part, name), dynamic=False))
        for _ in sample(pipeline, with_few_steps(settings), batch_size, sources):
            pass
    except Exception as error:  # of the compiler, of a missing C++ compiler, of an operation it does not know ...
        for part, name in functions:
            vars(part).pop(name, None)
        log.warning(
            "generation.compile: the model cannot be compiled and runs without (%s: %s)",
            type(error).__name__,
            short_text(error),
        )
        return False
    log.info("denoiser and decoder compiled in %.0f s", time.monotonic() - start)
    return True


def _allow_shapes(count: int) -> None:
    """Let torch compile a function for `count` more shapes of its inputs.

    Beyond its limit (8), torch runs further shapes without compiling them, and says so only in its own log. What it
    compiled for other pipelines of the process counts too.
    """
    limits: Any = torch._dynamo.config  # whose types are those of the default values
    limits.recompile_limit += count
    limits.accumulated_recompile_limit += count


def _keep_code_between_jobs(device: str) -> None:
    """Let torch keep compiled code in the cache of the user, unless TORCHINDUCTOR_CACHE_DIR names another folder.

    Its default is a temporary folder. The files of the cache are safe to use in several jobs at the same time.
    """
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR"):
        return
    kind = re.sub(r"\W+", "_", f"torch_{torch.__version__}_{device_name(device)}").strip("_")
    folder = cache_folder() / "compiled" / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("%s: cannot be written (%s): compiled code is not kept for other jobs", folder, error.strerror)
        return
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
