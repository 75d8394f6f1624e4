"""`synaug diff`: the differences between two manifests of the same kind, row by row and class by class."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from synaug.commands.show import ParquetSummary
from synaug.commands.terminal import console, line_text, number_of, plain_table, progress
from synaug.manifests import SORT_KEYS
from synaug.runtime.errors import UserError, short_text

_DUPLICATE = "duplicate"  # numbers the rows with the same key
_EXAMPLES = 3  # rows shown of each kind
_CLASSES = 40  # classes listed, the ones with the most differences
_NUMBERS = ("old", "new", "added", "removed", "changed")


@dataclass(frozen=True)
class Difference:
    """The difference between two manifests.

    manifest: name of the manifest. rows: numbers of rows: old, new, added, removed, changed. columns: for each column,
    in how many rows its value changed. per_class: the numbers of `rows` by the column `class_column` (label_name or
    recipe), where any row was added, removed or changed; None: the manifest has no such column. examples: added,
    removed and changed rows as text.
    """

    manifest: str
    rows: dict[str, int]
    columns: dict[str, int]
    columns_added: list[str]
    columns_removed: list[str]
    class_column: str | None
    per_class: pd.DataFrame | None
    examples: dict[str, list[str]]

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        numbers = [self.rows[name] for name in ("added", "removed", "changed")]
        return any(numbers) or bool(self.columns_added or self.columns_removed)


def compare(old: Path, new: Path) -> Difference:
    """Compare two manifests row by row.

    Rows are matched by the columns that the manifest is sorted by; their order does not matter. Encoded images are
    compared by their recorded hash. Raises UserError if a file is no manifest, or if the two are of different kinds.
    """
    manifest, other = (_manifest_name(path) for path in (old, new))
    if manifest != other:
        raise UserError(f"{old} is a manifest {manifest}, {new} a manifest {other}", advice="name two of the same kind")
    before, after = _read(old), _read(new)
    common = [name for name in before if name in after]
    # Classes by name: a new class changes the numbers of the classes after it.
    keys = ["label_name" if name == "label" and "label_name" in common else name for name in SORT_KEYS[manifest]]
    keys = [name for name in [*keys, "weighting"] if name in common]
    old_keys, new_keys = (
        frame[keys].assign(**{_DUPLICATE: frame.groupby(keys, dropna=False).cumcount()}) for frame in (before, after)
    )
    matches = old_keys.assign(old=range(len(before))).merge(
        new_keys.assign(new=range(len(after))), on=[*keys, _DUPLICATE], how="outer", indicator=True
    )
    kept = matches[matches["_merge"] == "both"]
    old_kept, new_kept = before.iloc[kept["old"].astype(int)], after.iloc[kept["new"].astype(int)]
    changes = pd.DataFrame({name: _changed(old_kept[name], new_kept[name]) for name in common if name not in keys})
    parts = {
        "added": matches[matches["_merge"] == "right_only"],
        "removed": matches[matches["_merge"] == "left_only"],
        "changed": kept[changes.any(axis=1).to_numpy(bool)],
    }
    examples = {
        name: [_key_text(row, keys) for _, row in parts[name].head(_EXAMPLES).iterrows()]
        for name in ("added", "removed")
    }
    examples["changed"] = [
        f"{_key_text(row, keys)}: {_change_text(kept.index.get_loc(index), changes, old_kept, new_kept)}"
        for index, row in parts["changed"].head(_EXAMPLES).iterrows()
    ]
    class_column = next((name for name in ("label_name", "recipe") if name in keys), None)
    return Difference(
        manifest=manifest,
        rows={"old": len(before), "new": len(after)} | {name: len(part) for name, part in parts.items()},
        columns={name: int(count) for name, count in changes.sum().sort_values(ascending=False).items() if count},
        columns_added=[name for name in after if name not in before],
        columns_removed=[name for name in before if name not in after],
        class_column=class_column,
        per_class=_per_class(class_column, {"old": before, "new": after} | parts) if class_column else None,
        examples=examples,
    )


def _manifest_name(path: Path) -> str:
    name = ParquetSummary(path).manifest
    if name not in SORT_KEYS:
        raise UserError(f"{path}: is no manifest of synaug", advice="name a Parquet file that the workflow wrote")
    return name


def _read(path: Path) -> pd.DataFrame:
    """All columns but encoded images, lists as tuples, so that they can be compared."""
    try:
        names = [field.name for field in pq.read_schema(path) if not pa.types.is_struct(field.type)]
        table = pq.read_table(path, columns=names, partitioning=None)
        frame = table.to_pandas(strings_to_categorical=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"{path}: is damaged ({short_text(error)})", advice="delete it and run the workflow again"
        ) from None
    frame = frame.astype(dict.fromkeys(frame.select_dtypes("category"), "str"))
    if frame.empty:  # pandas cannot merge two columns of texts without rows
        frame = frame.astype(object)
    for field in table.schema:
        if pa.types.is_list(field.type):
            frame[field.name] = frame[field.name].map(lambda values: None if values is None else tuple(values))
    return frame


def _changed(old: pd.Series, new: pd.Series) -> list[bool]:
    """Whether the value changed, row by row; null equals null."""
    old, new = old.reset_index(drop=True), new.reset_index(drop=True)
    same = (old == new).fillna(False).astype(bool)
    return (~same & ~(old.isna() & new.isna())).tolist()


def _per_class(column: str, frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Rows of each of `frames` per value of `column`, where any was added, removed or changed."""
    counts = pd.DataFrame({name: frame[column].value_counts() for name, frame in frames.items()})
    counts = counts.fillna(0).astype(int)
    return counts[(counts[["added", "removed", "changed"]] > 0).any(axis=1)].sort_index()


def _key_text(row: pd.Series, keys: list[str]) -> str:
    """The key of a row as text, without empty values."""
    parts = [f"{name} {line_text(row[name])}" for name in keys if pd.notna(row[name]) and row[name] != ""]
    return ", ".join(parts) + (f", {_DUPLICATE} {row[_DUPLICATE]}" if row[_DUPLICATE] else "")


def _change_text(position: int, changes: pd.DataFrame, old: pd.DataFrame, new: pd.DataFrame) -> str:
    """Old and new values of the row at `position` that changed."""
    names = changes.columns[changes.iloc[position].to_numpy(bool)]
    return "; ".join(
        f"{name} {line_text(old[name].iloc[position])[:40]} -> {line_text(new[name].iloc[position])[:40]}"
        for name in names
    )


def diff(
    old: Annotated[Path, typer.Argument(help="A manifest.")],
    new: Annotated[Path, typer.Argument(help="Another manifest of the same kind.")],
) -> None:
    """Show the differences between two manifests.

    Lists rows that were added, removed or changed, the columns with other values, and the numbers per class.

    Exit status: 0 no difference, 1 a difference, 2 an error.

    \b
    Example:
      synaug diff results/mine/balanced.parquet results/mine-v2/balanced.parquet
    """
    with progress("comparing", None):
        difference = compare(old, new)
    numbers = difference.rows
    if not difference:
        print(f"no difference: manifest {difference.manifest}, {number_of(numbers['old'], 'row')}")
        return
    print(
        f"manifest {difference.manifest}: {numbers['old']:,} -> {numbers['new']:,} rows; {numbers['added']:,} added, "
        f"{numbers['removed']:,} removed, {numbers['changed']:,} changed"
    )
    for side, names in (("OLD", difference.columns_removed), ("NEW", difference.columns_added)):
        if names:
            print(f"columns only in {side}: {', '.join(names)}")
    if difference.columns:
        columns = [f"{name} ({number_of(count, 'row')})" for name, count in difference.columns.items()]
        print(f"changed columns: {', '.join(columns)}")
    for name, rows in difference.examples.items():
        for row in rows:
            print(f"  {name}: {row}")
        if numbers[name] > len(rows):
            print(f"  {name}: ... {numbers[name] - len(rows):,} more")
    if difference.per_class is not None and len(difference.per_class):
        _print_classes(difference.class_column, difference.per_class)
    raise typer.Exit(1)


def _print_classes(column: str, per_class: pd.DataFrame) -> None:
    order = per_class[["added", "removed", "changed"]].sum(axis=1).sort_values(ascending=False, kind="stable")
    table = plain_table(column, *_NUMBERS, numbers=len(_NUMBERS))
    for name in order.index[:_CLASSES]:
        table.add_row(line_text(name), *(f"{per_class.loc[name, number]:,}" for number in _NUMBERS))
    console().print("", table, sep="\n", markup=False)
    if len(order) > _CLASSES:
        print(f"... {len(order) - _CLASSES:,} more")
