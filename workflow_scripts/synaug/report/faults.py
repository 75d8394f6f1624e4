"""The section about faults in the data: how many there are, and the worst of them as pictures."""

from pathlib import Path

import pandas as pd

from synaug.config import Dataset
from synaug.datasets.faults import REASONS, faults_of
from synaug.manifests import read_manifest
from synaug.report.gallery import SIDE, thumbnails
from synaug.runtime.paths import local_path, results_root

MOST_IMAGES, MOST_PAIRS = 32, 16  # that are shown of each kind: less than 0.5 MB together
# Kind of fault -> its title on the page.
TITLES = {"label_issues": "label issues", "outliers": "outliers", "duplicates": "near-duplicates", "leaks": "leaks"}


def faults_section(real: str, dataset: Dataset) -> dict:
    """Values of the template about faults. real: path of the manifest, written with dataset.faults.find.

    kinds: kind of fault -> title. counts: one dict per split: split, images, and of each kind `found` and `dropped`.
    label_issues, outliers: the worst images, one dict each: src (data URI), file, split, label, suggested, value.
    duplicates, leaks: pairs of such dicts, the image that has the fault first. files: (kind, dict) of all of them.
    """
    rows = read_manifest("real", real)
    found = faults_of(rows)
    counts: list[dict] = []
    for split in dataset.splits:
        of_split = rows["split"] == split
        counts.append({"split": split, "images": int(of_split.sum())})
        for kind, reason in REASONS.items():
            dropped = of_split & (rows["reason"] == reason)
            counts[-1][kind] = {"found": int((found[kind] & of_split).sum()), "dropped": int(dropped.sum())}
    order = {"label_issues": ("label_quality", True), "outliers": ("outlier_score", False)}
    worst = {
        kind: rows[found[kind]].sort_values([column, "image_id"], ascending=[ascending, True]).head(MOST_IMAGES)
        for kind, (column, ascending) in order.items()
    }
    of_id, root = rows.set_index("image_id"), results_root(real)
    sections: dict[str, list] = {
        kind: _image_dicts(images, order[kind][0], dataset, root) for kind, images in worst.items()
    }
    files = [(kind, image) for kind, images in sections.items() for image in images]
    for kind, column in (("duplicates", "duplicate_of"), ("leaks", "leak_of")):
        images = rows[found[kind]].sort_values([column, "image_id"]).head(MOST_PAIRS)
        originals = of_id.loc[images[column]].reset_index()
        shown = [_image_dicts(side, None, dataset, root) for side in (images, originals)]
        sections[kind] = list(zip(*shown, strict=True))
        files += [(kind, image) for pair in sections[kind] for image in pair]
    return {"kinds": TITLES, "counts": counts, "files": files, **sections}


def _image_dicts(rows: pd.DataFrame, score: str | None, dataset: Dataset, root: Path) -> list[dict]:
    """The images of `rows`, one dict each. score: column of `value`; None: there is no value. root: of the paths."""
    local_paths = rows["path"].map(lambda path: local_path(path, root))
    images = rows.assign(path=local_paths).reset_index(drop=True)
    sources = thumbnails(images, min(dataset.image_size, SIDE), dataset.color)
    return [
        {
            "src": src,
            "file": row["path"] if pd.isna(row["row"]) else f"{row['path']}, row {row['row']:.0f}",
            "split": row["split"],
            "label": row["label_name"],
            "suggested": None if pd.isna(row["suggested_label"]) else row["suggested_label"],
            "value": "" if score is None else f"{row[score]:.2g}",
        }
        for src, row in zip(sources, rows.to_dict("records"), strict=True)
    ]
