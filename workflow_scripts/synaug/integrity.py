"""Whether what lies in results/ is what was recorded: every image of every shard, every row that points at one."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synaug.images.codec import inspect_image
from synaug.manifests import read_manifest, read_table
from synaug.manifests.schemas import SCHEMAS
from synaug.plan.shards import shard_name
from synaug.runtime.errors import UserError

_AGAIN = "run the workflow again"
# Images that are read at once: a shard of large images need not fit into memory.
_AT_ONCE = 256


@dataclass
class Checked:
    """What was found in one file. Every finding is one line: what, where, what to delete or to make again."""

    path: Path
    images: int = 0
    findings: list[str] = field(default_factory=list)
    not_made: int = 0  # shards that a plan names and that are still to come: no fault


def find_experiments(folder: Path) -> list[Path]:
    """Folders of experiments: `folder` itself, or those in it. Raises UserError if there are none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name results/ or an experiment in it")
    found = [one for one in [folder, *sorted(folder.iterdir())] if _is_experiment(one)]
    if not found:
        raise UserError(f"{folder}: holds no experiment (a folder with shards/ or plan.parquet); name another folder")
    return found[:1] if found[0] == folder else found


def _is_experiment(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("shards", "plan.parquet", "work"))


def stored_files(experiment: Path) -> list[Path]:
    """The files of `experiment` that hold finished images: its shards, and what has their form."""
    return sorted(
        file for name in ("shards/*", "preview", "probe_images") for file in experiment.glob(f"{name}.parquet")
    )


def files_to_check(experiment: Path) -> list[Path]:
    """What holds images, finished batches of shards that are being made, and the manifests that point at shards."""
    manifests = [experiment / f"{kind}.parquet" for kind in _POINTING]
    return [
        *stored_files(experiment),
        *sorted(experiment.glob("work/*/*.parquet")),
        *(path for path in manifests if path.exists()),
    ]


def verify(experiment: Path) -> Iterator[Checked]:
    """Check `files_to_check` one after the other. Nothing is changed."""
    planned = _planned(experiment)
    shards: dict[str, pa.Table | None] = {}  # path -> image_id and sha256; None: unreadable, and said so
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path in files_to_check(experiment):
            if path.stem in _POINTING:
                yield _POINTING[path.stem](path, shards)
            else:
                checked, shards[_key(path)] = check_shard(path, pool, planned)
                yield checked


def _planned(experiment: Path) -> set[str]:
    """Names of the shards that the plan of `experiment` names; none if there is no readable plan."""
    try:
        return set(read_table("plan", experiment / "plan.parquet", ["shard"]).column("shard").unique().to_pylist())
    except UserError:
        return set()


def check_shard(path: Path, pool: ThreadPoolExecutor, planned: set[str]) -> tuple[Checked, pa.Table | None]:
    """Check one shard, preview or file of finished batches; returns also its columns image_id and sha256.

    Readable, complete, each image once, its bytes of the recorded hash, decodable and of the recorded size, and the
    name of a shard that of its images. planned: names of the shards that the plan of its experiment names.
    """
    checked = Checked(path)
    is_shard = path.parent.name == "shards"
    whole, some = _remedies(path, planned)
    try:
        table = read_table("shard", path, [name for name in SCHEMAS["shard"].names if name != "image"])
        names = pq.read_schema(path).names
        if "image" not in names:
            raise UserError(f"{path}: has no column image")
    except UserError as error:
        # The reader's own advice does not know where the file lies.
        checked.findings.append(f"{str(error).rsplit(';', 1)[0]}; {whole}")
        return checked, None
    ids = table.column("image_id").to_pylist()
    checked.images = len(ids)
    try:
        faults = list(_faulty_images(path, table, pool))
    except (pa.ArrowInvalid, OSError) as error:
        # One damaged page makes the whole column unreadable.
        checked.findings.append(f"{path}: its images cannot be read ({_short(error)}); {whole}")
        return checked, None
    for image_id, fault in faults:
        checked.findings.append(f"{path}: image {image_id} {fault}; {some}")
    if twice := sorted({one for one, count in pd.Series(ids).value_counts().items() if count > 1}):
        checked.findings.append(f"{path}: holds image {_and_more(twice)} more than once; {whole}")
    elif is_shard and shard_name(ids) != path.stem:
        checked.findings.append(f"{path}: does not hold the images that its name stands for; {some}")
    return checked, table.select(["image_id", "sha256"])


def _remedies(path: Path, planned: set[str]) -> tuple[str, str]:
    """What to do about a file of images if all of it is bad, and if some images are."""
    if path.parent.name != "shards":
        again = "" if path.name == "preview.parquet" else f" and {_AGAIN}"
        remedy = f"delete it{again}: its images are made again"
        return remedy, remedy
    if path.stem not in planned:
        return "delete it: no plan names it", "delete it: no plan names it"
    # Of what lies there, each image that has its hash is taken, and the folder goes in the end.
    work = path.parents[1] / "work" / path.stem
    return f"delete it and {_AGAIN}", f"move it into {work}/ and {_AGAIN}: only what is wrong is made again"


def _faulty_images(path: Path, table: pa.Table, pool: ThreadPoolExecutor) -> Iterator[tuple[str, str]]:
    """(image_id, what is wrong with it) for each image of the shard at `path` that is not as its row says."""
    rows = table.select(["image_id", "sha256", "width", "height"]).to_pylist()
    start = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_AT_ONCE, columns=["image"]):
            images = batch.column("image").field("bytes").to_pylist()
            some = rows[start : start + len(images)]
            for row, fault in zip(some, pool.map(_fault, images, some), strict=True):
                if fault:
                    yield row["image_id"], fault
            start += len(images)


def _fault(data: bytes | None, row: dict) -> str | None:
    if not data:
        return "is empty (0 bytes)"
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        return "does not have its recorded hash"
    width, height, reason = inspect_image(data, max_megapixels=float("inf"))
    if reason:
        return reason
    if (width, height) != (row["width"], row["height"]):
        return f"is {width} x {height} pixels, recorded are {row['width']} x {row['height']}"
    return None


def _check_plan(path: Path, shards: dict) -> Checked:
    """Every planned image is in its shard, unless that is still to be made."""
    checked = Checked(path)
    try:
        plan = read_manifest("plan", path, ["image_id", "shard"])
    except UserError as error:
        checked.findings.append(str(error))
        return checked
    if twice := sorted(plan.loc[plan["image_id"].duplicated(), "image_id"]):
        checked.findings.append(f"{path}: names image {_and_more(twice)} more than once; delete it and {_AGAIN}")
    for name, wanted in plan.groupby("shard", sort=True)["image_id"]:
        file = path.parent / "shards" / f"{name}.parquet"
        key = _key(file)
        if key not in shards:
            checked.not_made += 1
        elif shards[key] is not None:
            missing = sorted(set(wanted) - set(shards[key].column("image_id").to_pylist()))
            if missing:
                checked.findings.append(f"{path}: {file} lacks image {_and_more(missing)}; delete it and {_AGAIN}")
    return checked


def _check_places(path: Path, shards: dict) -> Checked:
    """Every synthetic image of the manifest `scores`, `synthetic` or `balanced` is where its row says."""
    checked = Checked(path)
    columns = ["image_id", "sha256", "path", "row"]
    try:
        rows = read_manifest(path.stem, path, [*columns, "source"] if path.stem == "balanced" else columns)
    except UserError as error:
        checked.findings.append(str(error))
        return checked
    if "source" in rows:
        rows = rows[rows["source"] == "synthetic"]
    # Paths are as the workflow saw them, from the folder that results/ lies in.
    root = Path(os.path.abspath(path)).parents[2]
    for file, some in rows[rows["path"].notna()].groupby("path", sort=True):
        if not (root / file).exists():
            checked.findings.append(f"{path}: {len(some)} rows point at {file}, which is gone; {_AGAIN} to make it")
            continue
        key = _key(root / file)
        if key not in shards:  # of another experiment
            try:
                shards[key] = read_table("shard", root / file, ["image_id", "sha256"])
            except UserError as error:
                shards[key] = None
                checked.findings.append(f"{path}: points at {error}")
        if shards[key] is None:
            continue
        place = some["row"].to_numpy(int)
        beyond = place >= shards[key].num_rows
        there = shards[key].take(pa.array(place[~beyond])).to_pandas()
        wrong = some["image_id"].iloc[beyond].tolist()
        inside = some[~beyond].reset_index(drop=True)
        differs = (inside["image_id"] != there["image_id"]) | (inside["sha256"] != there["sha256"])
        if wrong := sorted(wrong + inside.loc[differs, "image_id"].tolist()):
            checked.findings.append(
                f"{path}: row of image {_and_more(wrong)} points at another image in {file}; delete {path} and {_AGAIN}"
            )
    return checked


_POINTING: dict[str, Callable[[Path, dict], Checked]] = {
    "plan": _check_plan,
    "scores": _check_places,
    "synthetic": _check_places,
    "balanced": _check_places,
}


def _key(path: Path) -> str:
    return os.path.abspath(path)


def _and_more(ids: list[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{ids[0]} and {len(ids) - 1} more"


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
