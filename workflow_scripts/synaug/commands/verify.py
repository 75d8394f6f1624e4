"""`synaug verify`: whether every image of every shard, and every row that names an image, is as recorded."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pandas as pd
import pyarrow as pa
import typer

from synaug.commands.terminal import number_of, progress
from synaug.commands.verify_manifests import (
    check_manifest,
    check_together,
    content_fault,
    has_no_digest,
    manifest_files,
    plan_is_intact,
)
from synaug.datasets.tree import is_skipped
from synaug.images.codec import inspect_image
from synaug.images.tables import ImageTable, encoded_images
from synaug.manifests import read_manifest, read_table, stored_columns
from synaug.manifests.schemas import SCHEMAS
from synaug.plan.shards import files_with_images, planned_shards, shard_name
from synaug.runtime.errors import UserError
from synaug.runtime.machine import usable_cores

log = logging.getLogger(__name__)
_RUN_AGAIN = "run the workflow again"
# Absolute path of a checked shard -> its columns image_id and sha256; None: unreadable, which is a finding already.
_Shards = dict[str, pa.Table | None]


@dataclass
class CheckedFile:
    """The result of checking one file. Every finding is one line: the problem, where it is, and the remedy."""

    path: Path
    images: int = 0
    findings: list[str] = field(default_factory=list)
    unfinished: int = 0  # planned shards that are not generated yet, which is no finding
    has_no_digest: bool = False  # an older version wrote the file, which is no finding either


# What an experiment may hold without plan.parquet and real.parquet: shards, unfinished shards, decoded images.
_OTHER_FILES = ("shards/*.parquet", f"work/{'[0-9a-f]' * 16}/*.parquet", "pixels/*/*.pixels")


def find_experiments(folder: Path) -> list[Path]:
    """`folder` if it is an experiment, else the experiments in it. Raises UserError if there are none.

    A folder in it that may not be read is left out, with a warning: it may be an experiment of another user.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder", advice="name results/ or an experiment in it")
    if _is_experiment(folder):
        return [folder]
    experiments, refused = [], []
    for path in sorted(folder.iterdir()):
        try:
            experiments += [path] if not is_skipped(path.name) and _is_experiment(path) else []
        except PermissionError as error:
            refused.append(f"{path}: cannot be read ({error.strerror}), and is left out")
    if not experiments:
        raise UserError(
            f"{folder}: holds no experiment (a folder with plan.parquet, real.parquet or shards/*.parquet)",
            advice="name another folder",
        )
    for line in refused:
        log.warning(line)
    return experiments


def _is_experiment(folder: Path) -> bool:
    """Whether `folder` has a file of an experiment. A folder work/ or shards/ is not enough: others have one too."""
    if any((folder / name).exists() for name in ("plan.parquet", "real.parquet")):
        return True
    return any(any(folder.glob(pattern)) for pattern in _OTHER_FILES)


def files_to_check(experiment: Path) -> list[Path]:
    """Files with images, finished batches of unfinished shards, and manifests."""
    manifests = [experiment / f"{name}.parquet" for name in _MANIFEST_CHECKS]
    others = [path for path in manifest_files(experiment) if path not in manifests]
    return [
        *files_with_images([experiment]),
        *sorted(experiment.glob("work/*/*.parquet")),
        *(path for path in manifests if path.exists()),
        *others,
    ]


def verify_experiment(experiment: Path) -> Iterator[CheckedFile]:
    """Check `files_to_check` one after the other. Nothing is changed."""
    planned = _planned_shards(experiment)
    shards: _Shards = {}
    with ThreadPoolExecutor(usable_cores()) as pool:
        files = files_to_check(experiment)
        manifests = set(manifest_files(experiment))
        for path in files:
            if not path.exists():  # a job has finished its shard, or is making this manifest again
                continue
            if path.parent == experiment and path.stem in _MANIFEST_CHECKS:
                checked = _MANIFEST_CHECKS[path.stem](path, shards)
                checked.findings += check_manifest(path)
            elif path in manifests:
                checked = CheckedFile(path, findings=check_manifest(path))
            else:
                checked, shards[os.path.abspath(path)] = check_shard(path, pool, planned)
            checked.has_no_digest = has_no_digest(path)
            yield checked
    for path, line in check_together(experiment):
        yield CheckedFile(path, findings=[line])


def _planned_shards(experiment: Path) -> set[str] | None:
    """Names of the shards in the plan of `experiment`; None if there is no plan, or a damaged one."""
    pilot = experiment / "pilot.parquet"
    if not plan_is_intact(experiment / "plan.parquet") or (pilot.exists() and not plan_is_intact(pilot)):
        return None
    return planned_shards(experiment)


def check_shard(path: Path, pool: ThreadPoolExecutor, planned: set[str] | None) -> tuple[CheckedFile, pa.Table | None]:
    """Check a shard, a preview, or a file of finished batches.

    It must be readable and complete, hold each image once, and each image must have its recorded hash, be decodable and
    have its recorded size. The name of a shard must be that of its images. planned: names of the shards in the plan of
    the experiment; None: not known. Returns also the columns image_id and sha256; None: a part of the file is
    unreadable.
    """
    checked = CheckedFile(path)
    remedy_file, remedy_images = _remedies(path, planned)
    ids: list[str] = []
    hashes: list[str] = []
    damaged: dict[int, str] = {}
    try:
        columns, _ = stored_columns("shard", path, SCHEMAS["shard"].names)
        with ImageTable(path) as table:
            for _, batch in table.stream(columns, damaged=damaged):
                rows = batch.select(["image_id", "sha256", "width", "height"]).to_pylist()
                images = encoded_images(batch.column("image"))
                for row, fault in zip(rows, pool.map(_fault, images, rows), strict=True):
                    if fault:
                        checked.findings.append(f"{path}: image {row['image_id']} {fault}; {remedy_images}")
                ids += [row["image_id"] for row in rows]
                hashes += [row["sha256"] for row in rows]
    except UserError as error:
        # The advice of the reader does not depend on where the file lies.
        checked.findings.append(f"{error.problem}; {remedy_file}")
        return checked, None
    checked.images = len(ids) + len(damaged)
    for reason in dict.fromkeys(damaged.values()):
        checked.findings.append(f"{path}: {reason}; {remedy_images}")
    if duplicates := sorted({image_id for image_id, count in pd.Series(ids).value_counts().items() if count > 1}):
        checked.findings.append(f"{path}: holds image {_and_more(duplicates)} more than once; {remedy_file}")
    elif path.parent.name == "shards" and shard_name(ids) != path.stem and not damaged:
        checked.findings.append(f"{path}: does not hold the images that its name stands for; {remedy_images}")
    elif not checked.findings and (fault := content_fault(path)):
        checked.findings.append(f"{path}: {fault}; {remedy_images}")
    return checked, None if damaged else pa.table({"image_id": ids, "sha256": hashes})


def _remedies(path: Path, planned: set[str] | None) -> tuple[str, str]:
    """What to do about a file with images if the whole file is bad, and if some of its images are."""
    if path.parent.name != "shards":
        again = "" if path.name.startswith("preview") else f" and {_RUN_AGAIN}"
        remedy = f"delete it{again}: its images are generated again"
        return remedy, remedy
    if planned is None:  # then nobody knows whether the other images of the shard are needed
        remedy = f"keep it, {_RUN_AGAIN} to make plan.parquet, and verify again"
        return remedy, remedy
    if path.stem not in planned:
        return "delete it: no plan names it", "delete it: no plan names it"
    # generate_shard takes every image with its recorded hash from the files in this folder, and deletes the folder.
    work = path.parents[1] / "work" / path.stem
    return (
        f"delete it and {_RUN_AGAIN}",
        f"move it into {work}/ and {_RUN_AGAIN}: only its bad images are generated again",
    )


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


def _check_plan(path: Path, shards: _Shards) -> CheckedFile:
    """Every planned image is in its shard, unless the shard is not generated yet."""
    checked = CheckedFile(path)
    try:
        plan = read_manifest("plan", path, ["image_id", "shard"])
    except UserError:  # `check_manifest` reports it
        return checked
    for name, planned_ids in plan.groupby("shard", sort=True)["image_id"]:
        file = path.parent / "shards" / f"{name}.parquet"
        key = os.path.abspath(file)
        if key not in shards:
            checked.unfinished += 1
        elif shards[key] is not None:
            missing = sorted(set(planned_ids) - set(shards[key].column("image_id").to_pylist()))
            if missing:
                checked.findings.append(f"{path}: {file} lacks image {_and_more(missing)}; delete it and {_RUN_AGAIN}")
    return checked


def _check_paths(path: Path, shards: _Shards) -> CheckedFile:
    """Every synthetic image of the manifest `scores`, `synthetic` or `balanced` is where its row says."""
    checked = CheckedFile(path)
    columns = ["image_id", "sha256", "path", "row"]
    try:
        rows = read_manifest(path.stem, path, [*columns, "source"] if path.stem == "balanced" else columns)
    except UserError:  # `check_manifest` reports it
        return checked
    if "source" in rows:
        rows = rows[rows["source"] == "synthetic"]
    # Paths are relative to the folder that holds results/; of an experiment at the root of the disk, none is found.
    root = Path(os.path.abspath(path)).parents[:3][-1]
    for file, rows_of_file in rows[rows["path"].notna()].groupby("path", sort=True):
        if not (root / file).exists():
            checked.findings.append(
                f"{path}: {len(rows_of_file)} rows name images in {file}, which does not exist; "
                f"{_RUN_AGAIN} to generate it"
            )
            continue
        key = os.path.abspath(root / file)
        if key not in shards:  # of another experiment
            try:
                shards[key] = read_table("shard", root / file, ["image_id", "sha256"])
            except UserError as error:
                shards[key] = None
                checked.findings.append(f"{path}: names images in {error}")
        if shards[key] is None:
            continue
        if wrong := _wrong_rows(rows_of_file, shards[key]):
            checked.findings.append(
                f"{path}: the row of image {_and_more(wrong)} names another image in {file}; "
                f"delete {path} and {_RUN_AGAIN}"
            )
    return checked


def _wrong_rows(rows: pd.DataFrame, shard: pa.Table) -> list[str]:
    """Ids, sorted, of the images whose column `row` names no row of `shard`, or the row of another image."""
    positions = rows["row"].fillna(-1).to_numpy(int)
    inside = (positions >= 0) & (positions < shard.num_rows)
    recorded = rows[inside].reset_index(drop=True)
    stored = shard.take(pa.array(positions[inside])).to_pandas()
    differs = (recorded["image_id"] != stored["image_id"]) | (recorded["sha256"] != stored["sha256"])
    return sorted([*rows["image_id"][~inside], *recorded.loc[differs, "image_id"]])


_MANIFEST_CHECKS: dict[str, Callable[[Path, _Shards], CheckedFile]] = {
    "plan": _check_plan,
    "pilot": _check_plan,
    "scores": _check_paths,
    "synthetic": _check_paths,
    "balanced": _check_paths,
}


def _and_more(ids: list[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{ids[0]} and {len(ids) - 1} more"


def verify(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="results/ (the default), or experiments in it.", show_default=False),
    ] = None,
) -> None:
    """Check every stored image.

    Compares every image of every shard with its recorded hash, every manifest with the digest of its content, and
    checks every row that names an image. Compares the manifests with each other: their keys, their counts, and what
    they say of the same image. The files of the data set are not read. Each finding is one line: what is wrong, where,
    and what to delete or to run again. Nothing is changed.

    \b
    Example:
      synaug verify results/mine
    """
    experiments = [path for folder in folders or [Path("results")] for path in find_experiments(folder)]
    findings = images = unfinished = without_digest = 0
    shards, other_files = set(), set()
    with progress("checking", sum(len(files_to_check(experiment)) for experiment in experiments)) as advance:
        for experiment in experiments:
            for checked in verify_experiment(experiment):
                for line in checked.findings:
                    print(line, flush=True)
                findings += len(checked.findings)
                images += checked.images
                unfinished += checked.unfinished
                without_digest += checked.has_no_digest
                (shards if checked.path.parent.name == "shards" else other_files).add(checked.path)
                advance(1)
    text = (
        f"{number_of(findings, 'finding')} in {number_of(len(experiments), 'experiment')}: "
        f"{number_of(len(shards), 'shard')}, {number_of(images, 'image')}, "
        f"{number_of(len(other_files), 'other file')}"
    )
    if unfinished:
        text += f"; {number_of(unfinished, 'planned shard')} {'is' if unfinished == 1 else 'are'} not generated yet"
    if without_digest:
        text += (
            f"; {number_of(without_digest, 'file')} of an older version {'has' if without_digest == 1 else 'have'} no "
            "digest, so that not every changed row is found"
        )
    print(text)
    raise typer.Exit(1 if findings else 0)
