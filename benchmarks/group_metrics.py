"""Time and memory of the group metrics with their intervals, on one core.

    python benchmarks/group_metrics.py [--quick]

`resample` and `score_groups` on 100,000 random predictions in 20 cells (10 classes x 2 groups), 1,000 resamples; and
in 2,000 cells (100 classes x 20 groups). `resample` runs once per experiment, `score_groups` once per network and
group column. Seconds are the median of the rounds; processor seconds exclude what the core did for other processes.
Peak memory is that of the whole process so far; the memory before the first call (libraries and predictions) is listed
too. The last line is one JSON object; without --quick it is also written to benchmarks/results/group_metrics.json.
"""

import argparse
import json
import os
import resource
import statistics
import time
from pathlib import Path

import numpy as np

from hardware import measured_on
from synaug.evaluation.bootstrap import DRAWS, resample
from synaug.evaluation.groups import score_groups


def peak_mib() -> int:
    """Peak memory of the process so far; Linux counts it in KiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure(images: int, classes: int, groups: int, rounds: int) -> dict:
    """Three of four predictions are correct, the others any class; class and group are random."""
    rng = np.random.default_rng(0)
    label, group = rng.integers(classes, size=images), rng.integers(groups, size=images)
    predicted = np.where(rng.random(images) < 0.75, label, rng.integers(classes, size=images))
    names = ([f"class {i}" for i in range(classes)], [f"group {i}" for i in range(groups)], "attribute")
    before, wall, processor, rows = peak_mib(), [], [], 0
    start = time.perf_counter()
    counts = resample(group * classes + label)
    resample_seconds = time.perf_counter() - start
    for _ in range(rounds):
        start, processor_start = time.perf_counter(), time.process_time()
        scores = score_groups(label, predicted, group, *names, counts, training=np.ones((groups, classes)))
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - processor_start)
        rows = len(scores)
    return {
        "predictions": images,
        "classes": classes,
        "groups": groups,
        "draws": DRAWS,
        "metrics": rows,
        "rounds": rounds,
        "resample_seconds": round(resample_seconds, 3),
        "seconds": round(statistics.median(wall), 3),
        "processor_seconds": round(statistics.median(processor), 3),
        "peak_mib": peak_mib(),
        "peak_mib_before": before,
    }


def main() -> None:
    """Measure, print, and (without --quick) write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    images, rounds = (10_000, 1) if quick else (100_000, 5)
    result = {
        "quick": quick,
        "cells_20": measure(images, 10, 2, rounds),
        "cells_2000": measure(images, 100, 20, 1),
        **measured_on("numpy"),
    }
    if not quick:
        path = Path(__file__).with_name("results") / "group_metrics.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
