"""Which of the generated images may be trained on. A rejected image stays in the manifest, with the reason."""

import io
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from PIL import Image

from synaug.config import Screening
from synaug.images import inspect_image
from synaug.manifests import read_table


def screen_synthetic(plan: pd.DataFrame, shards: dict[str, str], screening: Screening) -> pd.DataFrame:
    """Rows of the manifest `synthetic`: one per planned image, in whichever shard it lies.

    plan: columns image_id, label, label_name, stored_size, shard of the manifest `plan`. shards: shard name -> path.
    """
    rows = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, wanted in plan.groupby("shard", sort=True):
            table = read_table("shard", shards[name], ["image", "image_id", "sha256"])
            place = {image_id: row for row, image_id in enumerate(table.column("image_id").to_pylist())}
            data = table.column("image").combine_chunks().field("bytes")
            sums = table.column("sha256")

            def screen(image, place=place, data=data, sums=sums, path=shards[name]) -> dict:
                row = place.get(image.image_id)
                found = {"image_id": image.image_id, "label": image.label, "label_name": image.label_name}
                if row is None:
                    return found | {"sha256": "", "accepted": False, "reason": "is not in its shard"}
                scores = examine(data[row].as_py(), image.stored_size, screening)
                return found | {"path": path, "row": row, "column": "image", "sha256": sums[row].as_py(), **scores}

            rows += pool.map(screen, wanted.itertuples())
    columns = [
        "image_id",
        "label",
        "label_name",
        "path",
        "row",
        "column",
        "width",
        "height",
        "sha256",
        "contrast",
        "accepted",
        "reason",
    ]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype(
        {"row": "Int64", "width": "Int32", "height": "Int32", "accepted": "bool", "contrast": "float64"}
    )


def examine(data: bytes, size: int, screening: Screening) -> dict:
    """Scores and verdict of one encoded image: width, height, contrast, accepted, reason."""
    width, height, reason = inspect_image(data, max_megapixels=float("inf"))
    contrast = None
    if reason is None:
        contrast = float(np.asarray(Image.open(io.BytesIO(data)), np.float32).std())
        if (width, height) != (size, size):
            reason = f"is {width} x {height} pixels, not {size} x {size}"
        elif contrast < screening.min_contrast:
            reason = f"is blank (contrast {contrast:.2f} < {screening.min_contrast:g})"
    return {"width": width, "height": height, "contrast": contrast, "accepted": reason is None, "reason": reason}
