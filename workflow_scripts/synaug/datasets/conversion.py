"""Images packed into files that a manifest cannot point into (tars, Arrow files, torchvision): copied to one table."""

import os
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from synaug.config import Dataset
from synaug.datasets import huggingface, torchvision_set, webdataset
from synaug.images.tables import in_batches
from synaug.manifests.schemas import IMAGE
from synaug.runtime.errors import UserError

ORIGIN = "synaug.origin"  # key of the metadata of the table
REASON = "synaug.reason"  # column of the table: why an image is not usable, where the source knows it
# Source -> module with its functions `files` and `find`.
PACKED = {"webdataset": webdataset, "huggingface": huggingface, "torchvision": torchvision_set}


def write_table(dataset: Dataset, path: str | os.PathLike, origin: str = "") -> int:
    """Write all images of the splits that are used to the table `path`. Returns their number.

    Columns: image (the encoded image, unchanged), label_name, split, the group columns, and REASON for a source that
    yields reasons. origin: what the data set is called elsewhere; the table keeps it in its metadata. Raises UserError
    if there is no image, or if the source cannot be read.
    """
    count, writer = 0, None
    try:
        for table in _batches(dataset):
            if writer is None:
                schema = table.schema.with_metadata({ORIGIN: origin}) if origin else table.schema
                # PNG and JPEG do not compress further.
                writer = pq.ParquetWriter(path, schema, use_dictionary=["label_name", "split"], compression="NONE")
            writer.write_table(table)
            count += table.num_rows
    finally:
        if writer:
            writer.close()
    if not count:
        raise UserError(f"dataset.path: {dataset.path} holds no image; give a data set that has images")
    return count


def _batches(dataset: Dataset) -> Iterator[pa.Table]:
    for batch in in_batches(PACKED[dataset.source].find(dataset), lambda row: len(row["data"] or b"")):
        columns = {
            "image": pa.array([{"bytes": row["data"], "path": None} for row in batch], IMAGE),
            "label_name": pa.array([row["label_name"] for row in batch], pa.string()),
            "split": pa.array([row["split"] for row in batch], pa.string()),
        }
        for number, name in enumerate(dataset.group_columns):
            columns[name] = pa.array([row["attributes"][number] for row in batch], pa.string())
        if "reason" in batch[0]:  # of all rows of a source, or of none
            columns[REASON] = pa.array([row["reason"] for row in batch], pa.string())
        yield pa.table(columns)
