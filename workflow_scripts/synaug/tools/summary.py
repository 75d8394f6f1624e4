"""What is in a manifest, read column by column: a million rows take a second.

Any Parquet file will do, also an older manifest, so this reads without the schemas.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synaug.runtime.errors import UserError

# Columns whose values are counted, if a manifest has them, and by which other column they are split.
COUNTED = ("label_name", "group", "split", "source", "kind", "shot", "usable", "accepted", "rejected_by", "reason")
COUNTED += ("recipe", "stage", "metric", "licence", "model")
SPLIT_BY = ("source", "split", "accepted")
_HASH = 16  # letters of a hash of a file that are shown
_LONGEST = 60  # letters of any other value, in a row; of a value that is counted:
_LONGEST_COUNTED = 120


@dataclass(frozen=True)
class Column:
    """A column: name, type in words, what it means (from the file), and whether it may be empty."""

    name: str
    type: str
    about: str


@dataclass(frozen=True)
class Counts:
    """Rows per value of `column`, most first; `parts` are the values of `split_by` that each is split into."""

    column: str
    split_by: str | None
    parts: list[str]
    rows: list[tuple[str, list[int]]]  # value, and its rows in each of `parts`


class Manifest:
    """A Parquet file that is looked at. Raises UserError if it is none, or damaged."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.file = pq.ParquetFile(path)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; name a manifest, like results/mine/balanced.parquet") from None
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path}: is not a readable Parquet file ({_one_line(error)})") from None
        self.schema = self.file.schema_arrow
        self.rows = self.file.metadata.num_rows
        self.bytes = path.stat().st_size
        metadata = self.schema.metadata or {}
        self.kind = metadata.get(b"synaug:manifest", b"").decode()
        self.version = metadata.get(b"synaug:schema_version", b"").decode()

    def columns(self) -> list[Column]:
        """What the file says of its columns."""
        return [
            Column(
                field.name,
                _type_name(field.type),
                (field.metadata or {}).get(b"about", b"").decode() + (" (may be null)" if field.nullable else ""),
            )
            for field in self.schema
        ]

    def read(self, columns: list[str]) -> pa.Table:
        """Some columns of all rows; repeated texts stay dictionaries."""
        try:
            return self.file.read(columns)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{self.path}: is damaged ({_one_line(error)}); delete it and run again") from None

    def counts(self) -> list[Counts]:
        """Rows per value of each of the columns COUNTED that are there and say something."""
        there = [name for name in COUNTED if name in self.schema.names]
        table = self.read(there)
        split = next((name for name in SPLIT_BY if name in there), None)
        counts = [_count(table, name, split if name in ("label_name", "group") else None) for name in there]
        return [one for one in counts if one.rows and [value for value, _ in one.rows] not in (["-"], [""])]

    def sample(self, count: int) -> list[dict[str, str]]:
        """Rows from all over the file, evenly spread, as short texts; encoded images are left out."""
        names = [field.name for field in self.schema if not _is_image(field.type)]
        groups, count = self.file.num_row_groups, min(count, self.rows)
        starts, start = [], 0
        for group in range(groups):
            starts.append(start)
            start += self.file.metadata.row_group(group).num_rows
        rows = []
        for position in sorted({i * (self.rows - 1) // max(1, count - 1) for i in range(count)}):
            group = max(i for i in range(groups) if starts[i] <= position)
            rows.append(self._row(group, position - starts[group], names))
        return rows

    def _row(self, group: int, position: int, names: list[str]) -> dict[str, str]:
        # In pages: a whole row group is 131,072 rows of everything.
        for batch in self.file.iter_batches(8192, [group], names):
            if position < batch.num_rows:
                return {name: short(batch.column(name)[position].as_py()) for name in names}
            position -= batch.num_rows
        raise AssertionError("row beyond its row group")


def _count(table: pa.Table, name: str, split: str | None) -> Counts:
    # Over the codes of repeated texts: a group-by of the texts takes ten times as long.
    values, codes = _encode(table.column(name))
    parts, part_codes = _encode(table.column(split)) if split else (["rows"], 0)
    numbers = np.bincount(codes * len(parts) + part_codes, minlength=len(values) * len(parts))
    totals: dict[str, dict[str, int]] = {}
    for (value, part), number in np.ndenumerate(numbers.reshape(len(values), len(parts))):
        if number:
            row = totals.setdefault(short(values[value], _LONGEST_COUNTED), {})
            text = _part(split, parts[part]) if split else "rows"
            row[text] = row.get(text, 0) + int(number)
    names = sorted({part for row in totals.values() for part in row})
    rows = [(value, [row.get(part, 0) for part in names]) for value, row in totals.items()]
    return Counts(name, split, names, sorted(rows, key=lambda row: (-sum(row[1]), row[0])))


def _encode(column: pa.ChunkedArray) -> tuple[list, np.ndarray]:
    """The different values of a column, then null, and the number of each row's value: int64."""
    column = column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    values = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
    codes = [_numbers(chunk.indices, len(values)) for chunk in column.chunks]
    return [*values, None], np.concatenate([np.empty(0, np.int64), *codes])


def _numbers(codes: pa.Array, null: int) -> np.ndarray:
    """int64, with `null` for nulls."""
    if not codes.null_count:
        return np.from_dlpack(codes).astype(np.int64)  # `to_numpy` would import pandas
    return np.nan_to_num(codes.to_numpy(zero_copy_only=False), nan=null).astype(np.int64)


def _part(split: str, value) -> str:
    """`accepted` or `not accepted`, if that is the question; else the value."""
    return f"{'' if value else 'not '}{split}" if isinstance(value, bool) else short(value)


def short(value, longest: int = _LONGEST) -> str:
    """A value as a short text of at most `longest` letters; null is a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        shown = ", ".join(short(one) for one in value[:4])
        return f"[{shown}{f', ... {len(value)} in all' if len(value) > 4 else ''}]"
    text = " ".join(str(value).split())
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):
        longest = _HASH
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _type_name(kind: pa.DataType) -> str:
    if _is_image(kind):
        return "image"
    if pa.types.is_dictionary(kind):
        return _type_name(kind.value_type)
    if pa.types.is_list(kind):
        return f"list of {_type_name(kind.value_type)}"
    return str(kind)


def _is_image(kind: pa.DataType) -> bool:
    """Whether it holds encoded images: bytes, or the struct of Hugging Face."""
    return pa.types.is_binary(kind) or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
