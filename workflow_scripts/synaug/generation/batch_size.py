"""Find the number of images to sample together by a short trial."""

import logging
import time
from collections.abc import Mapping

import numpy as np
import pandas as pd

from synaug.generation.sampling import try_batch

log = logging.getLogger(__name__)

# More steps would give the same order: a batch consists of equal steps and the decoder.
_STEPS = 2
_MAX_BATCH_SIZE = 256
# A doubling that gains less speed than this factor is not worth its memory.
_MIN_GAIN = 1.05


def find_batch_size(pipeline, rows: pd.DataFrame, sources: Mapping[str, np.ndarray] | None = None) -> int:
    """The power of two, 1 to 256, at which `pipeline` samples the most images per second with the settings of `rows`.

    Doubles as long as that gains 5 %, fits into memory, and is less than twice the number of rows. The images of the
    trial are discarded.
    """
    trial = with_few_steps(rows)
    if sources is not None:  # one real image for all: to decode others would be part of the measured time
        source = trial["source_image"].iloc[0]
        trial, sources = trial.assign(source_image=source), {source: sources[source]}
    best, best_speed, size = 1, 0.0, 1
    while size <= _MAX_BATCH_SIZE and size < 2 * len(rows):
        batch = trial.iloc[np.arange(size) % len(trial)]
        # Not timed: the first batch of a shape allocates memory and loads kernels.
        fits = try_batch(pipeline, batch, size, sources) is not None
        start = time.perf_counter()
        if not fits or try_batch(pipeline, batch, size, sources) is None:
            log.info("trial: batches of %d do not fit into memory", size)
            break
        speed = size / (time.perf_counter() - start)
        log.info("trial: batches of %d: %.1f images/s at %d steps", size, speed, trial["steps"].iloc[0])
        if speed < _MIN_GAIN * best_speed:
            break
        best, best_speed, size = size, speed, 2 * size
    return best


def with_few_steps(rows: pd.DataFrame, few: int = _STEPS) -> pd.DataFrame:
    """`rows` with at most as many steps as are needed to do `few`, for a trial.

    Image-to-image does only the share `strength` of the steps.
    """
    strength = rows["strength"].iloc[0]
    steps = int(np.ceil(few / (strength if pd.notna(strength) else 1)))
    return rows.assign(steps=np.minimum(rows["steps"], steps))
