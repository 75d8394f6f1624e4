"""Whether the manifests of an experiment agree with each other: keys, counts, and what they say of the same image."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synaug.manifests import SORT_KEYS, read_manifest, read_table, with_fill, with_group
from synaug.manifests.content import CONTENT_KEY, ContentDigest
from synaug.manifests.schemas import SCHEMAS
from synaug.plan.shards import shard_name
from synaug.runtime.errors import UserError, short_text
from synaug.runtime.files import check_regular_file

_AGAIN = "delete it and run the workflow again"
_CELL = ["label", "label_name", "group"]
_PLACE = ["sha256", "path", "row", "column"]
_NOT_HERE = ("shards", "work", "pixels")  # folders of files that other checks, or none, are for
# In the footer. Another program that writes the rows leaves them out.
_KIND_KEY, _CONTENT_KEY = b"synaug:manifest", CONTENT_KEY.encode()
_REWRITTEN = "was rewritten by another program, so that not every changed value is found"
# Manifests that are not named after their kind, by the end of their path.
_NAMED = {
    "pilot.parquet": "plan",
    "domain_probes.parquet": "metrics",
    "shortcuts.parquet": "metrics",
    "packed/index.parquet": "packed",
    f"scores/{'[0-9a-f]' * 16}.parquet": "shard_scores",
    "candidates/[0-9]*.parquet": "candidates",
    "backbone_features/*.parquet": "backbone_features",
}


def manifest_files(experiment: Path) -> list[Path]:
    """All manifests of `experiment` but its files of images."""
    return [
        path
        for path in sorted(experiment.rglob("*.parquet"))
        if path.relative_to(experiment).parts[0] not in _NOT_HERE and _kind(path) not in (None, "shard")
    ]


def check_manifest(path: Path) -> list[str]:
    """One line for each fault of a manifest alone: it cannot be read, a key occurs twice, or rows are not in order."""
    kind = _kind(path)
    lists = [field.name for field in SCHEMAS[kind] if pa.types.is_list(field.type)]
    findings = [f"{path}: {_REWRITTEN}; {_AGAIN}"] if _is_rewritten(path) else []
    try:
        table = read_table(kind, path, [name for name in SCHEMAS[kind].names if name not in lists])
    except UserError as error:
        return [*findings, f"{error.problem}; {_AGAIN}"]
    except (pa.ArrowException, OSError, ValueError) as error:
        return [*findings, f"{path}: is damaged ({short_text(error)}); {_AGAIN}"]
    if not findings and (fault := content_fault(path)):
        # What the other checks would find follows from it.
        return [f"{path}: {fault}; {_AGAIN}"]
    keys = [name for name in [*SORT_KEYS[kind], "weighting"] if name in table.column_names]
    plain = {name: _decoded(table.column(name)) for name in keys}
    keys_of_rows = pa.table(plain)
    duplicates = []
    for unique in (keys, ["image_id"] if "image_id" in table.column_names else keys):
        rows = pa.table({name: _decoded(table.column(name)) for name in unique})
        if rows.group_by(unique).aggregate([]).num_rows < rows.num_rows:
            texts = rows.to_pandas().astype(str)
            first = texts[texts.duplicated()].iloc[0]
            duplicates = [f"{path}: has {', '.join(first)} in more than one row; {_AGAIN}"]
    findings += duplicates
    order = [(name, "ascending") for name in SORT_KEYS[kind]]
    if not keys_of_rows.sort_by(order).select(SORT_KEYS[kind]).equals(keys_of_rows.select(SORT_KEYS[kind])):
        findings.append(f"{path}: its rows are not in the order in which they were written; {_AGAIN}")
    if kind == "plan":
        findings += _check_shards_of_plan(path)
    if kind == "predictions" and not table.num_rows:
        findings.append(f"{path}: has no image; {_AGAIN}")
    if kind == "imbalance":
        counts = table.select(["kind", "count"]).to_pandas().astype({"kind": str}).groupby("kind")["count"]
        if counts.size().get("summary") != 1 or counts.sum()["summary"] != counts.sum().get("cell"):
            findings.append(f"{path}: its summary is not that of its cells; {_AGAIN}")
    if kind == "real":
        findings += _check_ids_of_real(path)
    if kind == "synthetic":
        findings += _check_verdicts(path)
    return findings


def content_fault(path: Path) -> str | None:
    """Why the content of a manifest is not that for which its footer has a digest; None: it is, or there is no digest.

    A file that another program wrote has no digest, which is a fault too; one of an older version may have none.
    The images of a shard are left out: `verify` compares them with their hashes.
    """
    if _is_rewritten(path):  # its columns may have types for which there is no digest
        return _REWRITTEN
    content = ContentDigest()
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            names = [field.name for field in schema if not pa.types.is_struct(field.type)]
            content.update(schema.empty_table().select(names))
            for batch in file.iter_batches(columns=names):  # features do not fit into memory together
                content.update(batch)
            recorded = (file.metadata.metadata or {}).get(_CONTENT_KEY)
    except (pa.ArrowException, OSError, ValueError) as error:
        return f"is damaged ({short_text(error)})"
    return "does not hold what was written to it" if recorded not in (None, content.hexdigest().encode()) else None


def has_no_digest(path: Path) -> bool:
    """Whether a manifest can be read and its footer has no digest of its content: an older version wrote it."""
    footer = _footer(path)
    return footer is not None and _KIND_KEY in footer and _CONTENT_KEY not in footer


def _is_rewritten(path: Path) -> bool:
    """Whether a manifest can be read, and another program wrote it."""
    footer = _footer(path)
    return footer is not None and _KIND_KEY not in footer and _CONTENT_KEY not in footer


def _footer(path: Path) -> dict[bytes, bytes] | None:
    """The keys in the footer of a Parquet file, and their values; None: it cannot be read."""
    try:
        check_regular_file(path)
        return pq.read_metadata(path).metadata or {}
    except (UserError, pa.ArrowException, OSError, ValueError):
        return None


def check_together(experiment: Path) -> Iterator[tuple[Path, str]]:
    """The manifests that contradict another one, and a line for each. Manifests that cannot be read are left out."""
    paths = {kind: experiment / f"{kind}.parquet" for kind in ("real", "imbalance", "plan", "scores", "synthetic")}
    paths |= {kind: experiment / f"{kind}.parquet" for kind in ("balanced", "quality")}
    tables = {kind: rows for kind, path in paths.items() if (rows := _read(kind, path)) is not None}
    pairs: list[tuple[str, str, Callable[..., Iterator[str]]]] = [
        ("imbalance", "real", _counted),
        ("plan", "imbalance", _planned_cells),
        ("scores", "plan", _same_images),
        ("synthetic", "scores" if "scores" in tables else "plan", _same_images),
        ("balanced", "synthetic", _synthetic_part),
        ("balanced", "quality", _kept),
    ]
    for kind, other, compare in pairs:
        if kind in tables and other in tables:
            for problem in compare(tables[kind], tables[other]):
                yield paths[kind], f"{paths[kind]}: {problem} ({paths[other].name}); {_AGAIN}"
    if {"balanced", "real", "imbalance"} <= set(tables):
        for problem in _real_part(tables["balanced"], tables["real"], tables["imbalance"]):
            yield paths["balanced"], f"{paths['balanced']}: {problem} (real.parquet); {_AGAIN}"
    if "real" in tables:
        for path in sorted(experiment.glob("*/*/*/predictions.parquet")):
            rows = _read("predictions", path)
            for problem in _predicted(rows, tables["real"]) if rows is not None else ():
                yield path, f"{path}: {problem} (real.parquet); {_AGAIN}"


def plan_is_intact(path: Path) -> bool:
    """Whether the plan has all its rows, and the names of its shards stand for its images: it may decide deletions."""
    try:
        return not _check_shards_of_plan(path) and not content_fault(path)
    except UserError:
        return False


def _kind(path: Path) -> str | None:
    """The kind of manifest that the file says it is, or is named after; None: another file, or a table of images."""
    kind = (_footer(path) or {}).get(_KIND_KEY, b"").decode(errors="replace")
    if not kind:  # damaged, or another program wrote it
        kind = next((named for pattern, named in _NAMED.items() if path.match(pattern)), path.stem)
    return kind if kind in SORT_KEYS else None


def _read(kind: str, path: Path) -> pd.DataFrame | None:
    """The manifest; None: there is none, or `check_manifest` reports it."""
    if not path.exists():
        return None
    try:
        return with_group(read_manifest(kind, path))
    except UserError:
        return None


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _check_shards_of_plan(path: Path) -> list[str]:
    plan = read_manifest("plan", path, ["image_id", "label", "group", "fill", "index", "shard"])
    ids = plan.groupby("shard")["image_id"].agg(list)
    if wrong := [name for name, of_shard in ids.items() if shard_name(of_shard) != name]:
        return [f"{path}: the images of shard {_and_more(wrong)} are not those that its name stands for; {_AGAIN}"]
    counts = with_fill(plan).groupby(["label", "group", "fill"])["index"].agg(["size", "nunique", "max"])
    if ((counts["nunique"] != counts["size"]) | (counts["max"] != counts["size"] - 1)).any():
        return [f"{path}: the images of a class are not numbered without gaps; {_AGAIN}"]
    return []


def _check_ids_of_real(path: Path) -> list[str]:
    rows = read_manifest("real", path, ["image_id", "sha256", "usable", "reason", "label", "label_name"])
    findings = []
    wrong = rows["image_id"].str.split("-").str[0] != rows["sha256"].str[:24]
    if wrong.any():
        findings.append(
            f"{path}: image {_and_more(rows.loc[wrong, 'image_id'].tolist())} has the hash of another image; {_AGAIN}"
        )
    wrong = rows["usable"] != rows["reason"].isna()
    if wrong.any():
        findings.append(
            f"{path}: image {_and_more(rows.loc[wrong, 'image_id'].tolist())} is usable and has a reason against it, "
            f"or neither; {_AGAIN}"
        )
    if _names_differ(rows):
        findings.append(f"{path}: a class has two numbers, or two names; {_AGAIN}")
    return findings


def _check_verdicts(path: Path) -> list[str]:
    rows = read_manifest("synthetic", path, ["image_id", "accepted", "rejected_by", "reason"])
    wrong = (rows["accepted"] != rows["reason"].isna()) | (rows["accepted"] != rows["rejected_by"].isna())
    if wrong.any():
        ids = _and_more(rows.loc[wrong, "image_id"].tolist())
        return [f"{path}: image {ids} is accepted and has a reason against it, or neither; {_AGAIN}"]
    return []


def _names_differ(rows: pd.DataFrame) -> bool:
    pairs = rows[["label", "label_name"]].drop_duplicates()
    return pairs["label"].duplicated().any() or pairs["label_name"].duplicated().any()


def _train_splits(real: pd.DataFrame, imbalance: pd.DataFrame) -> list[str]:
    """The splits that `imbalance` may have counted: several if they have equally many images of every class."""
    cells = imbalance[(imbalance["kind"] == "cell") & (imbalance["count"] > 0)]
    wanted = cells.set_index(_CELL)["count"].to_dict()
    counts = real[real["usable"]].groupby(["split", *_CELL]).size()
    return [split for split, of_split in counts.groupby("split") if of_split.droplevel("split").to_dict() == wanted]


def _counted(imbalance: pd.DataFrame, real: pd.DataFrame) -> Iterator[str]:
    if not _train_splits(real, imbalance):
        yield "counts other images than there are in any split"


def _planned_cells(plan: pd.DataFrame, imbalance: pd.DataFrame) -> Iterator[str]:
    cells = imbalance[imbalance["kind"] == "cell"]
    known = set(map(tuple, cells[_CELL].astype({"label": "int64"}).to_numpy()))
    if set(map(tuple, plan[_CELL].astype({"label": "int64"}).drop_duplicates().to_numpy())) - known:
        yield "has a class, or a class in a group, that does not exist"


def _same_images(rows: pd.DataFrame, other: pd.DataFrame) -> Iterator[str]:
    """Whether `rows` are the images of `other`, with equal values in the columns that both have."""
    missing, more = set(other["image_id"]) - set(rows["image_id"]), set(rows["image_id"]) - set(other["image_id"])
    if missing:
        yield f"lacks image {_and_more(sorted(missing))}"
    if more:
        yield f"has image {_and_more(sorted(more))} too much"
    yield from _differences(rows, other)


def _differences(rows: pd.DataFrame, other: pd.DataFrame, only: list[str] | None = None) -> Iterator[str]:
    """The columns (of `only`) in which `rows` and `other` say different things of the same image."""
    common = [name for name in rows if name in other and name not in ("image_id", "weight")]
    common = [name for name in common if only is None or name in only]
    rows = rows[["image_id", *common]].drop_duplicates("image_id").set_index("image_id")
    other = other[["image_id", *common]].drop_duplicates("image_id").set_index("image_id")
    ids = rows.index.intersection(other.index)
    rows, other = rows.loc[ids], other.loc[ids]
    for name in common:
        left, right = rows[name], other[name]
        if left.dtype == object:  # lists
            left, right = (pd.Series(list(map(_as_tuple, side)), ids, object) for side in (left, right))
        differs = ~((left == right).fillna(False).astype(bool) | (left.isna() & right.isna()))
        if differs.any():
            yield f"has another {name} for image {_and_more(sorted(ids[differs]))}"


def _as_tuple(values):
    return tuple(values) if isinstance(values, np.ndarray) else values


def _synthetic_part(balanced: pd.DataFrame, synthetic: pd.DataFrame) -> Iterator[str]:
    rows = balanced[balanced["source"] == "synthetic"]
    if unknown := sorted(set(rows["image_id"]) - set(synthetic.loc[synthetic["accepted"], "image_id"])):
        yield f"has the synthetic image {_and_more(unknown)}, which is not accepted"
    yield from _differences(rows, synthetic, [*_CELL, *_PLACE])
    weights = synthetic.drop_duplicates("image_id").set_index("image_id")["weight"].reindex(rows["image_id"])
    if (rows["weight"].to_numpy() != weights.to_numpy()).any():
        yield "has another weight for a synthetic image"


def _real_part(balanced: pd.DataFrame, real: pd.DataFrame, imbalance: pd.DataFrame) -> Iterator[str]:
    splits = _train_splits(real, imbalance)
    if not splits:
        return  # reported already
    rows = balanced[balanced["source"] == "real"]
    # Of several, the one that fits best.
    yield from min(
        (list(_same_images(rows, real[real["usable"] & (real["split"] == split)])) for split in splits), key=len
    )
    if (rows["weight"] != 1).any():
        yield "has a weight other than 1 for a real image"
    if set(balanced["source"]) - {"real", "synthetic"}:
        yield "has an unknown source"


def _kept(balanced: pd.DataFrame, quality: pd.DataFrame) -> Iterator[str]:
    of_classes = quality[(quality["metric"] == "kept") & (quality["label_name"] != "")]
    kept = of_classes.groupby("label_name")["value"].sum()  # over the fills
    counts = balanced[balanced["source"] == "synthetic"].groupby("label_name").size()
    if (counts.reindex(kept.index, fill_value=0) != kept).any() or set(counts.index) - set(kept.index):
        yield "has another number of synthetic images"


def _predicted(predictions: pd.DataFrame, real: pd.DataFrame) -> Iterator[str]:
    splits = predictions["split"].unique()
    if "group" in predictions and predictions["group"].eq("").all():  # of an older version
        predictions = predictions.drop(columns="group")
    yield from _same_images(predictions, real[real["usable"] & real["split"].isin(splits)])


def _and_more(ids: list[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{ids[0]} and {len(ids) - 1} more"
