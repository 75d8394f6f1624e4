"""How imbalanced the classes, the groups, and their cells (class in a group) are."""

import logging
from itertools import product

import numpy as np
import pandas as pd

from synaug.config import Imbalance
from synaug.manifests import with_group
from synaug.runtime.errors import UserError

log = logging.getLogger(__name__)

_MAX_NAMED = 20  # empty cells that are named; the others are counted


def measure_imbalance(real: pd.DataFrame, train_split: str, shots: Imbalance) -> pd.DataFrame:
    """Rows of the manifest `imbalance`: one per cell (kind `cell`), and one for all images (kind `summary`).

    A cell is a class. If the images have groups, a cell is a class in a group, cells without an image are included, and
    each class and each group also has a row (kinds `class`, `group`). real: the manifest `real`; only usable images of
    `train_split` are counted, but classes and groups are those of all usable images. The log names empty cells.
    Raises UserError if two groups, or two cells, would have the same name.
    """
    real = with_group(real)
    usable = real[real["usable"]]
    train = usable[usable["split"] == train_split]
    classes = usable[["label", "label_name"]].drop_duplicates().sort_values("label")
    group_columns = ["group", "attributes"] if "attributes" in usable else ["group"]
    groups = usable[group_columns].drop_duplicates("group").sort_values("group")
    _check_names(usable, classes["label_name"], groups["group"])
    sizes = train.groupby(["label", "group"]).size().rename("count").reset_index()
    cells = classes.merge(groups, how="cross").merge(sizes, on=["label", "group"], how="left").fillna({"count": 0})
    tables = [cells.assign(kind="cell")]
    if (groups["group"] != "").any():
        tables.append(cells.groupby(["label", "label_name"])["count"].sum().reset_index().assign(kind="class"))
        tables.append(groups.merge(cells.groupby("group")["count"].sum().reset_index()).assign(kind="group"))
    summary = {
        "kind": "summary",
        "count": int(cells["count"].sum()),
        "share": 1.0,
        "deficit": int((cells["count"].max() - cells["count"]).sum()),
        **imbalance_measures(cells["count"].to_numpy(int)),
        **(association(cells) if len(tables) > 1 else {}),
    }
    for line in empty_cells(cells):
        log.warning("%s", line)
    tables = [_with_shares(rows.astype({"count": int}), shots) for rows in tables]
    table = pd.concat([*tables, pd.DataFrame([summary])])
    return table.fillna({"group": ""}).astype({"label": "Int32"}).reset_index(drop=True)


def _check_names(usable: pd.DataFrame, classes: pd.Series, groups: pd.Series) -> None:
    """Raise UserError if two groups, or two cells (class in a group), would have the same name."""
    if "attributes" in usable and usable["group"].str.count(", ").gt(0).any():
        attributes = usable["attributes"].map(tuple)
        of_group = attributes.groupby(usable["group"]).nunique()
        for name in of_group.index[of_group > 1]:
            first, second = attributes[usable["group"] == name].unique()[:2]
            raise UserError(
                f"dataset.group_columns: {first} and {second} are both called {name!r}", advice="rename the values"
            )
    cells: dict[str, tuple[str, str]] = {}
    for cell in product(classes, groups):
        if (other := cells.setdefault(", ".join(cell), cell)) != cell:
            raise UserError(
                f"dataset: class {other[0]!r} in group {other[1]!r} and class {cell[0]!r} in group {cell[1]!r} are "
                f"both called {', '.join(cell)!r}",
                advice="rename the classes or the groups",
            )


def empty_cells(cells: pd.DataFrame) -> list[str]:
    """A line for each group without a training image, and for each empty cell in the other groups.

    cells: rows `cell` of the manifest `imbalance`.
    """
    of_group = cells.groupby("group")["count"].transform("sum")
    lines = [
        f"group {name!r}: no training image, only images of other splits"
        for name in cells.loc[of_group == 0, "group"].drop_duplicates()
    ]
    empty = cells[(cells["count"] == 0) & (of_group > 0)]
    named = zip(empty["label_name"].head(_MAX_NAMED), empty["group"].head(_MAX_NAMED), strict=True)
    lines += [f"class {name!r}, group {group!r}: no training image" for name, group in named]
    return lines + (
        [f"... and {len(empty) - _MAX_NAMED} more cells without a training image"] if len(empty) > _MAX_NAMED else []
    )


def class_rows(imbalance: pd.DataFrame) -> pd.DataFrame:
    """The rows of whole classes in the manifest `imbalance`."""
    classes = imbalance[imbalance["kind"] == "class"]
    return classes if len(classes) else imbalance[imbalance["kind"] == "cell"]


def imbalance_measures(counts: np.ndarray) -> dict[str, float]:
    """Measures of imbalance of the counts per cell (int, K): imbalance_factor, gini, entropy, effective_classes.

    imbalance_factor: largest count / smallest count above 0. gini: sum_i (2i - K - 1) n_(i) / (K sum n), where n_(i) is
    the i-th smallest count, i from 1; 0 for equal counts, (K-1)/K at most. entropy: -sum p log p / log K, where
    p = n / sum n. effective_classes: exp(-sum p log p) (Hill number of order 1).
    """
    counts = np.sort(counts)
    classes = len(counts)
    present = counts[counts > 0]
    shares = present / present.sum()
    entropy = float(-(shares * np.log(shares)).sum())
    ranks = np.arange(1, classes + 1)
    return {
        "imbalance_factor": float(present[-1] / present[0]),
        "gini": float(((2 * ranks - classes - 1) * counts).sum() / (classes * counts.sum())),
        "entropy": entropy / float(np.log(classes)),
        "effective_classes": float(np.exp(entropy)),
    }


def association(cells: pd.DataFrame) -> dict[str, float]:
    """Measures of the association of class and group, from all cells (columns label, group, count).

    mutual_information: sum p(y, g) log(p(y, g) / (p(y) p(g))), nats. cramers_v: sqrt(chi2 / (n (min(C, G) - 1))),
    chi2 / n = sum (p(y, g) - p(y) p(g))^2 / (p(y) p(g)); 1: the group determines the class, or the reverse.
    """
    counts = cells.pivot(index="label", columns="group", values="count").to_numpy(float)
    joint = counts / counts.sum()
    expected = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    occurs = joint > 0
    possible = expected > 0
    chi2 = ((joint - expected)[possible] ** 2 / expected[possible]).sum()
    freedom = min((expected.sum(1) > 0).sum(), (expected.sum(0) > 0).sum()) - 1  # min(C, G) - 1
    return {
        "empty_cells": int((counts == 0).sum()),
        "mutual_information": float((joint[occurs] * np.log(joint[occurs] / expected[occurs])).sum()),
        "cramers_v": float(np.sqrt(chi2 / freedom)) if freedom else 0.0,
    }


def _with_shares(rows: pd.DataFrame, shots: Imbalance) -> pd.DataFrame:
    """`rows` with share, deficit and shot group, from their counts."""
    counts = rows["count"].to_numpy()
    return rows.assign(
        share=counts / counts.sum(),
        deficit=counts.max() - counts,
        shot=np.select([counts > shots.many_above, counts < shots.few_below], ["many", "few"], "medium"),
    )
