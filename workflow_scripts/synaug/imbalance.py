"""How uneven the classes are."""

import numpy as np
import pandas as pd

from synaug.config import Imbalance


def measure_imbalance(real: pd.DataFrame, train_split: str, shots: Imbalance) -> pd.DataFrame:
    """Rows of the manifest `imbalance`: one per class (kind `cell`), and one for all (kind `summary`).

    real: manifest `real`; only usable images of `train_split` count.
    """
    train = real[(real["split"] == train_split) & real["usable"]]
    cells = train.groupby(["label", "label_name"]).size().rename("count").reset_index()
    counts = cells["count"].to_numpy()
    cells = cells.assign(
        kind="cell",
        share=counts / counts.sum(),
        deficit=counts.max() - counts,
        shot=np.select([counts > shots.many_above, counts < shots.few_below], ["many", "few"], "medium"),
    )
    summary = {
        "kind": "summary",
        "count": int(counts.sum()),
        "share": 1.0,
        "deficit": int(cells["deficit"].sum()),
        **unevenness(counts),
    }
    table = pd.concat([cells, pd.DataFrame([summary])], ignore_index=True)
    return table.astype({"label": "Int32"})


def unevenness(counts: np.ndarray) -> dict[str, float]:
    """Figures of the counts per class (int, K, all > 0): imbalance_factor, gini, entropy, effective_classes.

    gini: sum_i (2i - K - 1) n_(i) / (K sum n), i from 1 in ascending order; 0 for equal counts, (K-1)/K at most.
    entropy: -sum p log p / log K. effective_classes: exp(-sum p log p) (Hill number of order 1).
    """
    counts = np.sort(counts)
    classes = len(counts)
    shares = counts / counts.sum()
    entropy = float(-(shares * np.log(shares)).sum())
    ranks = np.arange(1, classes + 1)
    return {
        "imbalance_factor": float(counts[-1] / counts[0]),
        "gini": float(((2 * ranks - classes - 1) * counts).sum() / (classes * counts.sum())),
        "entropy": entropy / float(np.log(classes)),
        "effective_classes": float(np.exp(entropy)),
    }
