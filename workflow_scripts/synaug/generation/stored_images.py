"""Images that lie in files with the schema of shards: checking them, and merging them into one shard.

Only what describes them is kept in memory, in rows with these columns: file and row (where the image is), bytes (its
size), and COPIED. The images themselves are read twice, once to check them and once to write them.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from synaug.generation.encoding import update_licences
from synaug.images.tables import ImageTable, encoded_images, in_batches
from synaug.manifests import stored_columns
from synaug.manifests.schemas import IMAGE, SCHEMAS
from synaug.runtime.errors import UserError

log = logging.getLogger(__name__)

# Columns of shards that describe the stored image. All others come from the plan.
DESCRIBING = ["image_id", "sha256", "width", "height", "batch_size", "device", "threads", "libraries"]
COPIED = [*DESCRIBING, "licence"]
NO_IMAGES = pd.DataFrame(columns=[*COPIED, "file", "row", "bytes"])


def intact_images(file: Path, rows: pd.Series) -> pd.DataFrame:
    """Those of the images at `rows` (of the table `file`) that are readable and have their recorded hash.

    A warning in the log says which are not. Raises UserError if the whole file cannot be read.
    """
    stored, defaults = stored_columns("shard", file, ["image", *COPIED])
    damaged: dict[int, str] = {}
    intact, hashes_differ = [], 0
    with ImageTable(file) as table:
        for numbers, batch in table.stream(stored, np.sort(rows.to_numpy(np.int64)), damaged):
            values = batch.drop_columns(["image"]).to_pylist()
            for row, data, value in zip(numbers.tolist(), encoded_images(batch.column("image")), values, strict=True):
                if data is not None and hashlib.sha256(data).hexdigest() == value["sha256"]:
                    intact.append(defaults | value | {"file": file, "row": row, "bytes": len(data)})
                else:
                    hashes_differ += 1
    if hashes_differ:
        log.warning("%s: %d images do not have their recorded hash and are made again", file, hashes_differ)
    for reason in dict.fromkeys(damaged.values()):
        log.warning("%s: %s; these images are made again", file, reason)
    return pd.DataFrame(intact, columns=NO_IMAGES.columns)


def images_for(rows: pd.DataFrame, stored: pd.DataFrame) -> Callable[[np.ndarray], Iterator[pa.Table]]:
    """The argument `images` of `write_shard`: reads the images `stored`, a few megabytes at a time.

    rows: of a plan, in the same order as `stored`. An image that was made under another licence gets that of the plan.
    """

    def images(order: np.ndarray) -> Iterator[pa.Table]:
        sizes = stored["bytes"].to_numpy()
        for positions in in_batches(order.tolist(), lambda position: int(sizes[position])):
            table = _read(stored.iloc[positions])
            yield update_licences(table, rows.iloc[positions]).select(["image", "sha256"])

    return images


def _read(stored: pd.DataFrame) -> pa.Table:
    """The columns image, sha256 and licence of the images `stored`. Raises UserError if one was changed or deleted."""
    stored = stored.reset_index(drop=True)
    images: dict[int, dict] = {}
    for file, group in stored.groupby("file", sort=False):
        group = group.sort_values("row")
        done = 0
        with ImageTable(file) as table:
            for numbers, batch in table.stream(["image"], group["row"].to_numpy(np.int64)):
                positions = group.index[done : done + len(numbers)]
                images.update(zip(positions, batch.column("image").to_pylist(), strict=True))
                done += len(numbers)
    for position, sha256 in stored["sha256"].items():
        if hashlib.sha256(images[position]["bytes"]).hexdigest() != sha256:
            problem = f"{stored['file'].iloc[position]}: was changed while its images were copied"
            raise UserError(problem, advice="run the workflow again")
    licences = pa.array(stored["licence"], pa.string()).cast(SCHEMAS["shard"].field("licence").type)
    return pa.table(
        {
            "image": pa.array([images[position] for position in range(len(stored))], IMAGE),
            "sha256": pa.array(stored["sha256"], pa.string()),
            "licence": licences,
        }
    )
