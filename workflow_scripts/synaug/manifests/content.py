"""A digest of the content of a manifest, which is kept in the footer of the file."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Key in the footer. A file without it was written by an older version.
CONTENT_KEY = "synaug:content"


class ContentDigest:
    """A digest of the names and values of all columns, and of the order of the rows.

    It is the same however the rows are cut into batches, and wherever Arrow keeps them in memory.
    """

    def __init__(self) -> None:
        self.columns: dict[str, _Column] = {}

    def update(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Add the next rows; or, if other columns were added, the rows of these columns."""
        for name, column in zip(rows.column_names, rows.columns, strict=True):
            digest = self.columns.setdefault(name, _Column())
            for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
                digest.update(chunk)

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        whole = hashlib.sha256()
        for name in sorted(self.columns):
            whole.update(name.encode() + b"\0" + self.columns[name].digest())
        return whole.hexdigest()


class _Column:
    """The digest of one column: of which values are null, of the lengths of texts and lists, and of the values."""

    def __init__(self) -> None:
        self.nulls, self.lengths, self.values = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        self.rows = 0
        self.items: _Column | None = None  # of a column of lists
        self.codes: dict[str | None, int] = {}  # of a dictionary: value -> its number in order of appearance
        self.last_code = -1

    def update(self, array: pa.Array) -> None:
        """Add the next values."""
        if array.null_count:
            positions = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))
            self.nulls.update((positions + self.rows).astype(np.int64).tobytes())
        if pa.types.is_dictionary(array.type):
            self._add_codes(array)
        elif pa.types.is_list(array.type):
            self.lengths.update(_bytes_of(_filled(pc.list_value_length(array), 0)))
            self.items = self.items or _Column()
            self.items.update(array.flatten())
        elif pa.types.is_string(array.type):
            array = _filled(array, "")
            self.lengths.update(_bytes_of(pc.binary_length(array)))
            _, offsets, data = array.buffers()
            if len(array) and data is not None:
                bounds = np.frombuffer(offsets, np.int32)
                self.values.update(memoryview(data)[bounds[array.offset] : bounds[array.offset + len(array)]])
        else:
            self.values.update(_bytes_of(_filled(array, False if pa.types.is_boolean(array.type) else 0)))
        self.rows += len(array)

    def _add_codes(self, array: pa.DictionaryArray) -> None:
        """Add the rows at which the value changes, and the numbers of the values.

        Most columns with a dictionary have few changes. A dictionary has its values in any order, and may have values
        that no row has.
        """
        if not len(array):
            return
        indices = _filled(array.indices, -1).to_numpy(zero_copy_only=False)
        rows = np.concatenate([[0], np.flatnonzero(indices[1:] != indices[:-1]) + 1])
        indices = indices[rows]
        numbers = np.zeros(len(array.dictionary) + 1, np.int64)  # of the values; the last one stands for null
        used = pc.unique(pa.array(indices))  # in order of appearance
        values = array.dictionary.take(pc.if_else(pc.less(used, 0), None, used)).to_pylist()
        numbers[used.to_numpy()] = [self.codes.setdefault(value, len(self.codes)) for value in values]
        changes = np.stack([rows + self.rows, numbers[indices]], axis=1).astype(np.uint32)
        changes = changes[int(changes[0, 1] == self.last_code) :]
        self.values.update(changes.tobytes())
        self.last_code = int(numbers[indices[-1]])

    def digest(self) -> bytes:
        """32 bytes."""
        whole = hashlib.sha256()
        for part in (self.nulls, self.lengths, self.values):
            whole.update(part.digest())
        whole.update(repr((self.rows, list(self.codes))).encode(errors="surrogatepass"))
        if self.items:
            whole.update(self.items.digest())
        return whole.digest()


def _filled(array: pa.Array, value) -> pa.Array:
    """`array` with `value` in place of nulls."""
    return array.fill_null(value) if array.null_count else array


def _bytes_of(array: pa.Array) -> memoryview:
    return memoryview(np.ascontiguousarray(array.to_numpy(zero_copy_only=False))).cast("B")
