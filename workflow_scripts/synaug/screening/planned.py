"""The images of a plan, and what the scores of its shards say of them, shard by shard."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from synaug.manifests import read_table
from synaug.runtime.errors import UserError


class Planned:
    """The images of a plan, and which of them are in each shard.

    rows: columns of the manifest `plan`, in its order; label, label_name, fill, image_id and shard among them.
    """

    def __init__(self, rows: pa.Table) -> None:
        # Ids of 90 million images are more text than a column of strings can hold in one piece.
        ids = rows.column("image_id").cast(pa.large_string())
        rows = rows.set_column(rows.schema.get_field_index("image_id"), "image_id", ids)
        for name in ("label_name", "fill", "shard"):  # plain in a file that another program wrote
            if not pa.types.is_dictionary(rows.column(name).type):
                position = rows.schema.get_field_index(name)
                rows = rows.set_column(position, name, rows.column(name).dictionary_encode())
        rows = rows.unify_dictionaries().combine_chunks()
        self.rows = rows.drop_columns("shard")
        self._shards, shard = _values_and_codes(rows.column("shard"))
        self._order = np.argsort(shard, kind="stable")
        self._start = np.searchsorted(shard[self._order], np.arange(len(self._shards) + 1))

    def __len__(self) -> int:
        return self.rows.num_rows

    def in_files(self, scored: Iterable[str], columns: Sequence[str]) -> Iterator[tuple[str, pa.Table, np.ndarray]]:
        """Path, rows and positions in the plan of the images in each of the files `scored`, scores/<shard>.parquet.

        columns: of the manifest `shard_scores`, image_id among them. Raises UserError if a planned image has no scores.
        """
        left = {name: self._order[self._start[i] : self._start[i + 1]] for i, name in enumerate(self._shards)}
        for path in scored:
            name = Path(path).stem
            positions = left.pop(name, None)
            if positions is None:
                continue
            table = read_table("shard_scores", path, columns)
            ids = self.rows.column("image_id").take(pa.array(positions))
            at = pd.Index(table.column("image_id").to_pandas()).get_indexer(ids.to_pandas())
            if (at < 0).any():
                raise _no_scores(name, ids[int(np.argmax(at < 0))].as_py())
            yield path, table.take(pa.array(at)), positions
        for name, positions in left.items():
            raise _no_scores(name, self.rows.column("image_id")[int(positions[0])].as_py())

    def classes(self) -> Iterator[np.ndarray]:
        """The positions of the images of each class and fill, in the order of the plan."""
        _, fill = _values_and_codes(self.rows.column("fill"))
        label = self.rows.column("label").to_numpy()
        order = np.lexsort([fill, label])  # stable
        ends = np.flatnonzero((np.diff(label[order]) != 0) | (np.diff(fill[order]) != 0)) + 1
        yield from np.split(order, ends) if len(order) else ()


def _values_and_codes(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """The different values of a column of dictionaries, and the number of the value of each row."""
    array = column.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    return array.dictionary.to_pylist(), array.indices.to_numpy()


def _no_scores(shard: str, image_id: str) -> UserError:
    return UserError(f"scores/{shard}.parquet: has no image {image_id}", advice="delete it and run again")
