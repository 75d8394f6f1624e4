"""A digest of the content of a manifest, which is kept in the footer of the file."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Key in the footer. A file without it was written by an older version, some with another digest in `synaug:content`.
CONTENT_KEY = "synaug:content_digest"


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
    """The digest of one column: of which values are null, of the lengths of texts and lists, and of the values.

    Of a column with a dictionary, only rows whose value differs from that of the row before count, with their numbers.
    """

    def __init__(self) -> None:
        self.nulls, self.lengths, self.values = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        self.changes = hashlib.sha256()  # of a column with a dictionary
        self.rows = 0
        self.items: _Column | None = None  # of a column of lists
        self.last: pa.Array | None = None  # the last value

    def update(self, array: pa.Array) -> None:
        """Add the next values."""
        if array.null_count:
            positions = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))
            self.nulls.update((positions + self.rows).astype(np.int64).tobytes())
        if pa.types.is_dictionary(array.type):
            self._add_changes(array)
        elif pa.types.is_list(array.type):
            self.lengths.update(_bytes_of(_filled(pc.list_value_length(array), 0)))
            self.items = self.items or _Column()
            self.items.update(array.flatten())
        elif pa.types.is_string(array.type):
            self._add_texts(_filled(array, ""))
        else:
            self.values.update(_bytes_of(_filled(array, False if pa.types.is_boolean(array.type) else 0)))
        self.rows += len(array)

    def _add_texts(self, array: pa.Array) -> None:
        self.lengths.update(_bytes_of(pc.binary_length(array)))
        _, offsets, data = array.buffers()
        if len(array) and data is not None:
            bounds = np.frombuffer(offsets, np.int32)
            self.values.update(memoryview(data)[bounds[array.offset] : bounds[array.offset + len(array)]])

    def _add_changes(self, array: pa.DictionaryArray) -> None:
        """Add the rows at which the value changes. Most columns with a dictionary have few of them."""
        if not len(array):
            return
        indices = _filled(array.indices, -1).to_numpy(zero_copy_only=False)
        rows = np.concatenate([[0], np.flatnonzero(indices[1:] != indices[:-1]) + 1])
        texts = array.dictionary.take(pa.array(indices[rows], mask=indices[rows] < 0))
        # A null differs from an empty text already by its place in `nulls`.
        texts = _filled(texts, "")
        before = texts.slice(0, 1) if self.last is None else self.last
        # A dictionary may have a value twice.
        is_change = pc.not_equal(texts, pa.concat_arrays([before, texts.slice(0, len(texts) - 1)]))
        is_change = is_change.to_numpy(zero_copy_only=False)
        is_change[0] |= self.last is None
        self.changes.update((rows[is_change] + self.rows).astype(np.int64).tobytes())
        self._add_texts(texts.filter(pa.array(is_change)))
        self.last = texts.slice(len(texts) - 1)

    def digest(self) -> bytes:
        """32 bytes."""
        whole = hashlib.sha256()
        for part in (self.nulls, self.lengths, self.values, self.changes):
            whole.update(part.digest())
        whole.update(repr(self.rows).encode())
        if self.items:
            whole.update(self.items.digest())
        return whole.digest()


def _filled(array: pa.Array, value) -> pa.Array:
    """`array` with `value` in place of nulls."""
    return array.fill_null(value) if array.null_count else array


def _bytes_of(array: pa.Array) -> memoryview:
    return memoryview(np.ascontiguousarray(array.to_numpy(zero_copy_only=False))).cast("B")
