"""Columns of a table: whether they can be used, and their values as text: classes, groups, splits and paths."""

import re
from collections.abc import Mapping, Sequence

import pandas as pd
import pyarrow as pa

from synaug.images.tables import is_binary, value_type
from synaug.runtime.errors import UserError

_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view)
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


def check_separator(where: str, names: Sequence[str]) -> None:
    """Raise UserError if a CSV file with the columns `names` has another separator than commas."""
    if len(names) == 1 and (separator := re.search(r"[;\t|]", names[0])):
        raise UserError(f"{where}: its columns are separated by {separator[0]!r}; save it with commas")


def check_columns(where: str, names: Sequence[str], wanted: Mapping[str, str]) -> None:
    """Raise UserError unless each of the columns `wanted` is once among `names`, all columns of the table.

    where: the file, and the config key before it. wanted: name -> what to do if there is no such column.
    """
    for name, advice in wanted.items():
        count = names.count(name)
        if not count:
            present = ", ".join(names) or "none"
            raise UserError(f"{where}: has no column {name!r} (its columns: {present})", advice=advice)
        if count > 1:
            raise UserError(f"{where}: has {count} columns {name!r}", advice="rename all but one")


def not_utf8(where: str) -> UserError:
    """The error for a text file in another encoding, as Excel saves it unless asked."""
    return UserError(f"{where}: is not UTF-8 text", advice="save it as UTF-8 (in Excel: CSV UTF-8)")


def is_text(data_type: pa.DataType) -> bool:
    """Whether values of this type are texts, in any layout of Arrow and also in a dictionary."""
    return any(test(value_type(data_type)) for test in _TEXTS)


def texts(column: pa.Array | pa.ChunkedArray, where: str, first: int = 0) -> list[str | None]:
    """The values as text, None for a missing one. Bytes are decoded as UTF-8.

    where: file and column, and first: row of the first value, for errors.
    Raises UserError for a column with several values in a row, and for bytes that are not UTF-8.
    """
    data_type = value_type(column.type)
    if any(test(data_type) for test in _LISTS):
        raise UserError(
            f"{where} holds several values for an image ({data_type}), and an image has one class; make a column with "
            "one value"
        )
    if pa.types.is_nested(data_type):
        raise UserError(f"{where} holds {data_type}, not texts or numbers; name another column")
    if is_text(data_type):
        return column.to_pylist()
    if is_binary(data_type):
        rows = enumerate(column.to_pylist(), first)
        return [None if value is None else _decoded(value, where, row) for row, value in rows]
    if pa.types.is_dictionary(column.type):
        column = column.cast(data_type)
    # As objects, because integers with a missing one would become floats, which round large ones.
    values = _restore_integers(column.to_pandas(integer_object_nulls=True))
    return [None if missing else str(value) for missing, value in zip(values.isna(), values, strict=True)]


def _decoded(value: bytes, where: str, row: int) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise UserError(
            f"{where}: row {row} is {value[:40]!r}, which is not UTF-8 text", advice="write it as UTF-8"
        ) from None


def _restore_integers(values: pd.Series) -> pd.Series:
    """Other programs save a column of integers with a missing one as floats: class 7 should not become 7.0."""
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all() and values.abs().max() < 2**53:
        return values.astype("Int64")
    return values
