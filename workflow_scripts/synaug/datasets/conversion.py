"""Images packed into files that a manifest cannot point into (tars, Arrow, arrays): they are made into one table."""

import os
from collections.abc import Iterator
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from synaug.config import Dataset
from synaug.datasets import huggingface, torchvision_set, webdataset
from synaug.manifests.schemas import IMAGE
from synaug.runtime.errors import UserError

FORMATS = {"webdataset": webdataset, "huggingface": huggingface, "torchvision": torchvision_set}
_BATCH = 1024  # images in memory


def write_table(dataset: Dataset, path: str | os.PathLike) -> int:
    """Write all images of the splits that are used to the table `path`; returns their number.

    Columns: image (as it is encoded), label_name, split and the group columns. Raises UserError if there is none, or
    for one that says no class.
    """
    count, writer = 0, None
    try:
        for table in _batches(dataset):
            # PNG and JPEG do not compress further.
            writer = writer or pq.ParquetWriter(
                path, table.schema, use_dictionary=["label_name", "split"], compression="NONE"
            )
            writer.write_table(table)
            count += table.num_rows
    finally:
        if writer:
            writer.close()
    if not count:
        raise UserError(f"dataset.path: {dataset.path} holds no image; give a data set with some")
    return count


def _batches(dataset: Dataset) -> Iterator[pa.Table]:
    found = FORMATS[dataset.source].find(dataset)
    while some := list(islice(found, _BATCH)):
        columns = {
            "image": pa.array([{"bytes": row["data"], "path": None} for row in some], IMAGE),
            "label_name": pa.array([row["label_name"] for row in some], pa.string()),
            "split": pa.array([row["split"] for row in some], pa.string()),
        }
        for number, name in enumerate(dataset.group_columns):
            columns[name] = pa.array([row["attributes"][number] for row in some], pa.string())
        yield pa.table(columns)
