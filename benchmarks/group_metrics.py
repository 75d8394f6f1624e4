"""What the figures of groups cost with their intervals: seconds and memory, on one core.

    python benchmarks/group_metrics.py [--quick]

`score_groups` on a million random predictions in 20 cells (10 classes x 2 groups), 1,000 resamples; and in 2,000 cells
(100 classes x 20 groups), the most it is made for. Seconds are the median of the rounds; processor seconds leave out
what the core did for other processes. Peak memory is that of the whole process up to then; what it held before the
first call, libraries and predictions included, stands beside it. The last line is one JSON object; without --quick it
also goes to benchmarks/results/group_metrics.json.
"""

import argparse
import json
import os
import resource
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from hardware import hardware, versions
from synaug.evaluation.groups import score_groups


def peak_mib() -> int:
    """Most memory that the process has held so far; Linux counts it in KiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure(images: int, classes: int, groups: int, draws: int, rounds: int) -> dict:
    """Three of four predictions are right, the rest any class; class and group are chance."""
    rng = np.random.default_rng(0)
    label, group = rng.integers(classes, size=images), rng.integers(groups, size=images)
    predicted = np.where(rng.random(images) < 0.75, label, rng.integers(classes, size=images))
    names = ([f"class {i}" for i in range(classes)], [f"group {i}" for i in range(groups)], "attribute")
    before, wall, processor, rows = peak_mib(), [], [], 0
    for _ in range(rounds):
        start = time.perf_counter(), time.process_time()
        scores = score_groups(label, predicted, group, *names, training=np.ones((groups, classes)), draws=draws)
        wall.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
        rows = len(scores)
    return {
        "predictions": images,
        "classes": classes,
        "groups": groups,
        "draws": draws,
        "figures": rows,
        "rounds": rounds,
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
    images, draws, rounds = (10_000, 100, 1) if quick else (1_000_000, 1000, 5)
    result = {
        "quick": quick,
        "cells_20": measure(images, 10, 2, draws, rounds),
        "cells_2000": measure(images, 100, 20, draws, 1),
        "hardware": hardware(),
        "versions": versions() | {"numpy": version("numpy")},
    }
    if not quick:
        path = Path(__file__).with_name("results") / "group_metrics.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
