"""What differs between two manifests of the same kind: rows by their key, columns, and rows per class."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synaug.manifests import SORT_KEYS
from synaug.runtime.errors import UserError

_COPY = "copy"  # a row with the same key as another: the how manyth
_MOST = 3  # rows that are named


@dataclass(frozen=True)
class Difference:
    """What differs. `rows`: old, new, added, removed, changed. `columns`: rows with another value, per column.

    by, classes: the column whose values those numbers are given for, and the numbers (a data frame with the columns of
    `rows`), where they are not zero; None: the manifest has no such column. examples: rows in words.
    """

    kind: str
    rows: dict[str, int]
    columns: dict[str, int]
    columns_added: list[str]
    columns_removed: list[str]
    by: str | None
    classes: pd.DataFrame | None
    examples: dict[str, list[str]]

    def __bool__(self) -> bool:
        """Whether anything differs."""
        numbers = [self.rows[name] for name in ("added", "removed", "changed")]
        return any(numbers) or bool(self.columns_added or self.columns_removed)


def compare(old: Path, new: Path) -> Difference:
    """Compare two manifests, row by row. Rows have the key by which the manifest is sorted; their order is no matter.

    Encoded images are compared by the hash that stands beside them. Raises UserError if a file is no manifest, or if
    the two are of different kinds.
    """
    kinds = [_kind(path) for path in (old, new)]
    if kinds[0] != kinds[1]:
        raise UserError(f"{old} is a manifest {kinds[0]}, {new} a manifest {kinds[1]}; name two of the same kind")
    before, after = _read(old), _read(new)
    both = [name for name in before if name in after]
    # The name of a class and not its number: one more class would make all rows others.
    keys = ["label_name" if name == "label" and "label_name" in both else name for name in SORT_KEYS[kinds[0]]]
    keys = [name for name in [*keys, "weighting"] if name in both]
    rows = [frame[keys].assign(**{_COPY: _copies(frame, keys)}) for frame in (before, after)]
    for frame, side in zip(rows, ("old", "new"), strict=True):
        frame[side] = range(len(frame))
    joined = rows[0].merge(rows[1], on=[*keys, _COPY], how="outer", indicator=True)
    kept = joined[joined["_merge"] == "both"]
    paired = [before.iloc[kept["old"].astype(int)], after.iloc[kept["new"].astype(int)]]
    differs = pd.DataFrame({name: _differ(*(frame[name] for frame in paired)) for name in both if name not in keys})
    changed = differs.any(axis=1).to_numpy(bool)
    parts = {"added": joined[joined["_merge"] == "right_only"], "removed": joined[joined["_merge"] == "left_only"]}
    parts["changed"] = kept[changed]
    by = next((name for name in ("label_name", "recipe") if name in keys), None)
    counts = differs.sum()
    return Difference(
        kind=kinds[0],
        rows={"old": len(before), "new": len(after)} | {name: len(part) for name, part in parts.items()},
        columns={name: int(count) for name, count in counts.sort_values(ascending=False).items() if count},
        columns_added=[name for name in after if name not in before],
        columns_removed=[name for name in before if name not in after],
        by=by,
        classes=None if by is None else _per_class(by, before, after, parts),
        examples={
            name: [_in_words(row, keys) + _values(row, differs, paired, kept) for _, row in part.head(_MOST).iterrows()]
            for name, part in parts.items()
        },
    )


def _kind(path: Path) -> str:
    try:
        kind = (pq.read_schema(path).metadata or {}).get(b"synaug:manifest", b"").decode()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: is not a readable Parquet file ({' '.join(str(error).split())[:200]})") from None
    if kind not in SORT_KEYS:
        raise UserError(f"{path}: is no manifest of synaug; name a Parquet file that the workflow made")
    return kind


def _read(path: Path) -> pd.DataFrame:
    names = [field.name for field in pq.read_schema(path) if not pa.types.is_struct(field.type)]
    table = pq.read_table(path, columns=names, partitioning=None)
    frame = table.to_pandas(strings_to_categorical=False)
    frame = frame.astype(dict.fromkeys(frame.select_dtypes("category"), "str"))
    for field in table.schema:
        if pa.types.is_list(field.type):
            frame[field.name] = frame[field.name].map(lambda values: None if values is None else tuple(values))
    return frame


def _copies(frame: pd.DataFrame, keys: list[str]) -> pd.Series:
    return frame.groupby(keys, dropna=False).cumcount()


def _differ(old: pd.Series, new: pd.Series) -> list[bool]:
    """Whether two columns differ, row by row; null is the same as null."""
    old, new = old.reset_index(drop=True), new.reset_index(drop=True)
    same = (old == new).fillna(False).astype(bool)
    return (~same & ~(old.isna() & new.isna())).tolist()


def _per_class(by: str, before: pd.DataFrame, after: pd.DataFrame, parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Rows of each value of `by` in which any number is not the same in both."""
    frames = {"old": before, "new": after} | parts
    counts = pd.DataFrame({name: frame[by].value_counts() for name, frame in frames.items()}).fillna(0).astype(int)
    return counts[(counts[["added", "removed", "changed"]] > 0).any(axis=1)].sort_index()


def _in_words(row: pd.Series, keys: list[str]) -> str:
    """The key of a row; what is empty is left out."""
    said = [f"{name} {row[name]}" for name in keys if pd.notna(row[name]) and row[name] != ""]
    return ", ".join(said) + (f", copy {row[_COPY]}" if row[_COPY] else "")


def _values(row: pd.Series, differs: pd.DataFrame, paired: list[pd.DataFrame], kept: pd.DataFrame) -> str:
    """Old and new values of a row that changed; nothing for one that is in one manifest alone."""
    if row.name not in kept.index:
        return ""
    place = kept.index.get_loc(row.name)
    said = []
    for name in differs.columns[differs.iloc[place].to_numpy(bool)]:
        old, new = (str(frame[name].iloc[place]) for frame in paired)
        said.append(f"{name} {old[:40]} -> {new[:40]}")
    return ": " + "; ".join(said)
