"""`synaug show`: what is in a manifest, read column by column, so that a million rows take a second.

It reads any Parquet file, also an older manifest, and therefore uses no schema. It does not import pandas, which would
take longer than reading.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from synaug.commands.terminal import console, line_text, number_of, plain_table
from synaug.runtime.errors import UserError, short_text
from synaug.runtime.files import check_regular_file

# Columns whose values are counted, if a manifest has them, and columns by which the counts of classes are split.
COUNTED = ("label_name", "group", "fill", "split", "source", "kind", "shot", "usable", "accepted", "rejected_by")
COUNTED += ("reason", "recipe", "stage", "metric", "licence", "model")
SPLIT_BY = ("source", "split", "accepted")
_HASH_LENGTH = 16  # characters shown of a SHA-256
_VALUE_LENGTH = 60  # characters shown of another value, in a row
_COUNTED_LENGTH = 120  # ... and in a table of counts
_SAMPLES = 3  # rows shown
_ENDS = 10  # of many values, the ones shown: so many with the most rows, and so many with the fewest


@dataclass(frozen=True)
class Column:
    """A column: its name, its type in words, and its meaning as the file states it."""

    name: str
    type: str
    about: str


@dataclass(frozen=True)
class Counts:
    """Rows per value of `column`, the most frequent value first.

    split_by: the column that splits each count; None: they are not split. parts: its values. rows: (value, number of
    rows in each of `parts`).
    """

    column: str
    split_by: str | None
    parts: list[str]
    rows: list[tuple[str, list[int]]]


class ParquetSummary:
    """A Parquet file, its columns, counts and sample rows. Raises UserError if it is no Parquet file, or damaged."""

    def __init__(self, path: Path):
        self.path = path
        check_regular_file(path)
        try:
            self.file = pq.ParquetFile(path)
        except FileNotFoundError:
            raise UserError(
                f"{path}: no such file", advice="name a manifest, such as results/mine/balanced.parquet"
            ) from None
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(
                f"{path}: is not a readable Parquet file ({short_text(error)})", advice="name a manifest"
            ) from None
        self.schema = self.file.schema_arrow
        self.rows = self.file.metadata.num_rows
        self.bytes = path.stat().st_size
        metadata = self.schema.metadata or {}
        # The name of the manifest; empty: another Parquet file.
        self.manifest = metadata.get(b"synaug:manifest", b"").decode(errors="replace")
        self.version = metadata.get(b"synaug:schema_version", b"").decode(errors="replace")

    def columns(self) -> list[Column]:
        """All columns, described by the metadata of the file."""
        return [
            Column(
                field.name,
                _type_name(field.type),
                (field.metadata or {}).get(b"about", b"").decode(errors="replace")
                + (" (may be null)" if field.nullable else ""),
            )
            for field in self.schema
        ]

    def counts(self) -> list[Counts]:
        """Rows per value of each column of COUNTED that the file has, unless all its values are empty."""
        # In other tables a column of this name may hold lists.
        names = [
            name
            for name in COUNTED
            if name in self.schema.names and not pa.types.is_nested(self.schema.field(name).type)
        ]
        try:
            table = self.file.read(names)
            split_by = next((name for name in SPLIT_BY if name in names), None)
            counts = [_count(table, name, split_by if name in ("label_name", "group") else None) for name in names]
        except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: text that is not UTF-8
            raise self.damaged(error) from None
        return [count for count in counts if count.rows and [value for value, _ in count.rows] not in (["-"], [""])]

    def sample(self, count: int) -> list[dict[str, str]]:
        """`count` rows, evenly spread over the file, as {column: short text}, without encoded images."""
        names = [field.name for field in self.schema if not _is_image(field.type)]
        count = min(count, self.rows)
        sizes = [self.file.metadata.row_group(group).num_rows for group in range(self.file.num_row_groups)]
        starts = np.cumsum([0, *sizes])
        rows = []
        for position in sorted({i * (self.rows - 1) // max(1, count - 1) for i in range(count)}):
            group = int(np.searchsorted(starts, position, side="right")) - 1
            rows.append(self._row(group, position - int(starts[group]), names))
        return rows

    def damaged(self, error: Exception) -> UserError:
        """The error for a part of the file that cannot be read."""
        return UserError(
            f"{self.path}: is damaged ({short_text(error)})", advice="delete it and run the workflow again"
        )

    def _row(self, group: int, position: int, names: list[str]) -> dict[str, str]:
        # In batches: a row group of a manifest has 131,072 rows.
        try:
            for batch in self.file.iter_batches(8192, [group], names):
                if position < batch.num_rows:
                    return {name: short(batch.column(name)[position].as_py()) for name in names}
                position -= batch.num_rows
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self.damaged(error) from None
        raise self.damaged(ValueError("a row group has fewer rows than the file states"))


def _count(table: pa.Table, name: str, split_by: str | None) -> Counts:
    # Counting the codes of a dictionary takes a tenth of the time of a group-by of the texts.
    values, codes = _encode(table.column(name))
    parts, part_codes = _encode(table.column(split_by)) if split_by else (["rows"], 0)
    numbers = np.bincount(codes * len(parts) + part_codes, minlength=len(values) * len(parts))
    counts: dict[str, dict[str, int]] = {}  # value -> part -> rows; values with the same short text share a row
    for (value, part), number in np.ndenumerate(numbers.reshape(len(values), len(parts))):
        if number:
            row = counts.setdefault(short(values[value], _COUNTED_LENGTH), {})
            part_name = _part_name(split_by, parts[part]) if split_by else "rows"
            row[part_name] = row.get(part_name, 0) + int(number)
    part_names = sorted({part for row in counts.values() for part in row})
    rows = [(value, [row.get(part, 0) for part in part_names]) for value, row in counts.items()]
    return Counts(name, split_by, part_names, sorted(rows, key=lambda row: (-sum(row[1]), row[0])))


def _encode(column: pa.ChunkedArray) -> tuple[list, np.ndarray]:
    """The distinct values of a column, followed by null, and for each row the index of its value, int64."""
    column = column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    values = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
    codes = [_indices(chunk.indices, len(values)) for chunk in column.chunks]
    return [*values, None], np.concatenate([np.empty(0, np.int64), *codes])


def _indices(codes: pa.Array, index_of_null: int) -> np.ndarray:
    """`codes` as int64, with `index_of_null` for nulls."""
    if not codes.null_count:
        return np.from_dlpack(codes).astype(np.int64)  # `to_numpy` would import pandas
    return np.nan_to_num(codes.to_numpy(zero_copy_only=False), nan=index_of_null).astype(np.int64)


def _part_name(split_by: str, value) -> str:
    """`accepted` or `not accepted` for the values of such a column, otherwise the value."""
    return f"{'' if value else 'not '}{split_by}" if isinstance(value, bool) else short(value)


def short(value, longest: int = _VALUE_LENGTH) -> str:
    """A value as text of at most `longest` characters; null is a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        first = ", ".join(short(item) for item in value[:4])
        return f"[{first}{f', ... {len(value)} in all' if len(value) > 4 else ''}]"
    text = line_text(value)
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):
        longest = _HASH_LENGTH
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _type_name(type_: pa.DataType) -> str:
    if _is_image(type_):
        return "image"
    if pa.types.is_dictionary(type_):
        return _type_name(type_.value_type)
    if pa.types.is_list(type_):
        return f"list of {_type_name(type_.value_type)}"
    return str(type_)


def _is_image(type_: pa.DataType) -> bool:
    """Whether a column of this type holds encoded images: bytes, or the struct that Hugging Face uses."""
    return pa.types.is_binary(type_) or (pa.types.is_struct(type_) and type_.get_field_index("bytes") >= 0)


def show(
    manifest: Annotated[Path, typer.Argument(help="A manifest in results/, or any other Parquet file.")],
    images: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Write a contact sheet with images of every class.")
    ] = None,
) -> None:
    """Show the columns, counts and some rows of a manifest.

    Columns are shown with their meaning. Rows are counted by class, group, source, split and similar columns.

    \b
    Example:
      synaug show results/mine/balanced.parquet --images sheet.png
    """
    summary = ParquetSummary(manifest)
    _print(summary)
    if images:
        from synaug.images.contact_sheet import draw_sheet_of

        try:
            drawn, cells = draw_sheet_of(manifest, images)
        except pa.ArrowException as error:
            raise summary.damaged(error) from None
        total = f" of {cells:,}" if drawn < cells else ""
        print(f"\nContact sheet: {images} (images of {drawn:,}{total} classes, groups and sources)")


def _print(summary: ParquetSummary) -> None:
    out = console()
    name = f"manifest {summary.manifest}, schema version {summary.version}" if summary.manifest else "Parquet"
    size = f"{summary.bytes / 1e6:,.1f} MB" if summary.bytes >= 1e5 else f"{summary.bytes:,} bytes"
    out.print(f"{summary.path}: {name}, {number_of(summary.rows, 'row')}, {size}", markup=False)
    table = plain_table("column", "type", "meaning")
    for column in summary.columns():
        table.add_row(column.name, column.type, column.about)
    out.print("", table, sep="\n", markup=False)
    for counts in summary.counts():
        out.print("", _counts_table(counts), sep="\n", markup=False)
    samples = summary.sample(_SAMPLES)
    if samples:
        table = plain_table("column", *(["a row", "another row", "another row"][: len(samples)]))
        for name in samples[0]:
            table.add_row(name, *(row[name] for row in samples))
        out.print("", table, sep="\n", markup=False)


def _counts_table(counts: Counts):
    """Rows per value; of many values the ones with the most and the fewest rows."""
    part_heads = counts.parts if len(counts.parts) > 1 else []
    heads = [*part_heads, "rows"]
    table = plain_table(counts.column, *heads, numbers=len(heads))

    def add(rows: list[tuple[str, list[int]]]) -> None:
        for value, numbers in rows:
            table.add_row(value or "(empty)", *(f"{n:,}" for n in numbers if part_heads), f"{sum(numbers):,}")

    add(counts.rows[:_ENDS])
    if left_out := counts.rows[_ENDS:-_ENDS]:
        total = sum(sum(numbers) for _, numbers in left_out)
        table.add_row(f"... {len(left_out):,} more, {total:,} rows", *[""] * len(heads))
    add(counts.rows[_ENDS:][-_ENDS:])
    return table
