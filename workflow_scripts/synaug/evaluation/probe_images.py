"""Probe images: synthetic images that no network is trained on, used only to measure networks."""

import math

import numpy as np
import pandas as pd

from synaug.manifests import read_table
from synaug.plan.rows import plan_from_settings

# Probe images of all cells together, unless the config has a number per cell. The interval of the domain probe, over as
# many real images, is then about 6 points wide.
TOTAL = 500


def default_images_per_cell(imbalance: pd.DataFrame, test: pd.DataFrame) -> int:
    """Probe images per cell, so that there are TOTAL in all (rounded up), but not more than test images to compare.

    imbalance: the manifest of this name. test: label and group of the test images.
    """
    cells = int((imbalance["kind"] == "cell").sum())
    return min(math.ceil(TOTAL / cells), int(test.groupby(["label", "group"]).size().max()))


def probe_image_rows(imbalance: pd.DataFrame, settings: dict, count: int, sources: pd.DataFrame | None) -> pd.DataFrame:
    """Rows of the manifest `plan`: for every cell, the `count` images that follow those of the experiment's own plan.

    imbalance: the manifest of this name; with sources, only cells that have some (`cells_with_sources`). settings: of
    rule plan_generation. sources: see `plan_generation`.
    """
    return plan_from_settings(imbalance, settings, sources, following=count)


def read_probe_images(path: str, test: pd.DataFrame) -> pd.DataFrame:
    """image_id, label, label_name, group, sha256 and location of the probe images in the manifest `shard` at `path`.

    test: test images, rows of the manifest `real`. Probe images of a class without test images are left out.
    """
    label_of = test.drop_duplicates("label_name").set_index("label_name")["label"]
    images = read_table("shard", path, ["image_id", "label_name", "group", "sha256"]).to_pandas()
    images = images.astype({"label_name": str, "group": str})
    images = images.assign(
        label=images["label_name"].map(label_of), path=path, row=np.arange(len(images)), column="image"
    )
    return images[images["label"].notna()].astype({"label": int})
