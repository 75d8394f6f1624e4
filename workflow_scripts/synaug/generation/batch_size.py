"""How many images to sample together, found by a short trial."""

import logging
import time
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from synaug.generation.sampling import is_out_of_memory, sample_batch

log = logging.getLogger(__name__)

# More steps would measure the same: one of them and the decoder are what a batch consists of.
_STEPS = 2
_LARGEST = 256
# A doubling that gains less than this is not worth its memory.
_GAIN = 1.05


def find_batch_size(pipeline, rows: pd.DataFrame, sources: Mapping[str, np.ndarray] | None = None) -> int:
    """The power of two, 1 to 256, at which `pipeline` makes the most images a second of the kind of `rows`.

    Doubles as long as that gains 5 %, memory lasts, and there are so many rows. What is made is thrown away.
    """
    # Not fewer steps than image-to-image leaves any of.
    steps = int(np.ceil(_STEPS / (rows["strength"].iloc[0] if pd.notna(rows["strength"].iloc[0]) else 1)))
    trial = rows.assign(steps=np.minimum(rows["steps"], steps))
    best, best_speed, size = 1, 0.0, 1
    while size <= _LARGEST and size < 2 * len(rows):
        batch = trial.iloc[np.arange(size) % len(trial)]
        try:
            sample_batch(pipeline, batch, size, sources)  # the first of a shape pays for memory and kernels
            start = time.perf_counter()
            sample_batch(pipeline, batch, size, sources)
            speed = size / (time.perf_counter() - start)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.info("trial: batches of %d do not fit into memory", size)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            break
        log.info("trial: batches of %d: %.1f images/s at %d steps", size, speed, trial["steps"].iloc[0])
        if speed < _GAIN * best_speed:
            break
        best, best_speed, size = size, speed, 2 * size
    return best
