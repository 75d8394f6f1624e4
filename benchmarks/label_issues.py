"""How many changed labels `dataset.faults.find` finds, and how many of its findings are changed labels.

    python benchmarks/label_issues.py [--quick]

The embedded data: a long tail of 1,236 training images, and 2,000 test images whose classes have equal sizes; each is
the training set once. In each draw, 5 % of the labels become another class at random. A finding is an image with a
`suggested_label`. A finding whose label was not changed counts as wrong, although the published label may be. The last
line is one JSON object; without --quick it is also written to benchmarks/results/label_issues.json.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd

from hardware import measured_on
from synaug.config import Dataset
from synaug.datasets import index_dataset
from synaug.datasets.fault_search import find_faults

DATA = Path(__file__).parents[1] / "resources" / "fashion_mnist_lt"
SHARE = 0.05
WORST = 20


def measure(images: pd.DataFrame, dataset: Dataset, seed: int, threads: int) -> dict:
    """One draw. images: rows of the manifest `real`, all of them of the training split."""
    rng = np.random.default_rng(seed)
    names = images.drop_duplicates("label").set_index("label")["label_name"]
    changed = rng.choice(len(images), round(SHARE * len(images)), replace=False)
    labels = images["label"].to_numpy().copy()
    labels[changed] = (labels[changed] + rng.integers(1, len(names), len(changed))) % len(names)
    drawn = images.assign(label=labels, label_name=names.reindex(labels).to_numpy())
    start = time.perf_counter()
    found = find_faults(drawn, dataset, threads)
    seconds = time.perf_counter() - start
    is_changed = np.isin(np.arange(len(images)), changed)
    is_issue = found["suggested_label"].notna().to_numpy()
    right = is_issue & is_changed
    worst = found[is_issue].nsmallest(WORST, "label_quality").index
    return {
        "seed": seed,
        "changed": len(changed),
        "found": int(is_issue.sum()),
        "found_and_changed": int(right.sum()),
        "recall": round(right.sum() / len(changed), 3),
        "precision": round(right.sum() / max(1, is_issue.sum()), 3),
        "original_class_suggested": int((found["suggested_label"] == images["label_name"])[right].sum()),
        f"changed_of_worst_{WORST}": int(is_changed[images.index.get_indexer(worst)].sum()),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Measure, print, and (without --quick) write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    dataset = Dataset(
        source="table", path=str(DATA), label_column="label_name", image_size=32, color="grey", faults={"find": True}
    )
    real = index_dataset(dataset)
    draws, threads = range(1 if quick else 5), len(os.sched_getaffinity(0))
    result: dict = {"quick": quick}
    for name, split in (("long_tail", "train"), ("equal_sizes", "test")):
        images = real[real["split"] == split].assign(split="train").reset_index(drop=True)
        images = images.groupby("label").head(20).reset_index(drop=True) if quick else images
        result[name] = {"images": len(images), "draws": [measure(images, dataset, seed, threads) for seed in draws]}
    result |= measured_on("scikit-learn", "cleanlab", "timm")
    if not quick:
        path = Path(__file__).with_name("results") / "label_issues.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
