"""The labelled images that a generator is trained on."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synaug.runtime.errors import UserError, short_text
from synaug.runtime.files import check_regular_file


def read_labelled_images(
    table: str, train_split: str, held_out: Sequence[str], group_columns: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per image: label, label_name, group, attributes, and path, row, column of the encoded image; the cells.

    table: a Parquet file with the images in it (columns image, label_name and `group_columns`), or a manifest `real`.
    Of a manifest, only usable images of `train_split` are taken; of another table, those outside the splits `held_out`.
    The cells, one row each, are sorted, and include those that only other images have: prompts may name them. Raises
    UserError if it cannot be read, if a column is missing, or if no image is left.
    """
    check_regular_file(table)
    try:
        available = pq.read_schema(table).names
    except (pa.ArrowException, OSError) as error:  # for example a CSV file, or a folder
        raise UserError(
            f"generator.images: {table}: is no Parquet file that can be read ({short_text(error)})",
            advice="give a Parquet file with images in it, or real.parquet of an experiment",
        ) from None
    is_manifest = "attributes" in available
    needed = ["label_name"] if is_manifest else ["label_name", *group_columns]
    if not set(needed) <= set(available) or not {"image", "path"} & set(available):
        raise UserError(
            f"{table}: needs the columns {', '.join(needed)} and image (or path, row); it has {', '.join(available)}",
            advice="add or rename columns",
        )
    known = {"label", "label_name", "group", "attributes", "split", "path", "row", "column", "usable", *needed}
    rows = pq.read_table(table, columns=[name for name in available if name in known], partitioning=None).to_pandas()
    if "image" in available:
        rows = rows.assign(path=table, row=np.arange(len(rows)), column="image")
    if "label" not in available:
        rows["label"] = rows["label_name"].rank(method="dense").astype(int)
    if not is_manifest:
        rows["attributes"] = rows[needed[1:]].astype(str).to_numpy().tolist()
        rows["group"] = [", ".join(values) for values in rows["attributes"]]
    if "usable" in available:
        rows = rows[rows["usable"]]
    cell = ["label", "group"]
    cells = rows.drop_duplicates(cell).sort_values(cell, ignore_index=True)
    splits = ", ".join(map(repr, sorted(rows["split"].unique()))) if "split" in available else ""
    if is_manifest:
        rows = rows[rows["split"] == train_split]
    elif "split" in available:
        rows = rows[~rows["split"].isin(held_out)]
    if rows.empty:
        which = (
            f"of the split {train_split!r}" if is_manifest else f"outside the split {' or '.join(map(repr, held_out))}"
        )
        raise UserError(f"{table}: has no image {which} (its splits: {splits})", advice="add training images")
    return rows.reset_index(drop=True), cells
