"""`synaug prune`: list or delete the shards that no plan names, and caches that a run fills again."""

import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import typer

from synaug.commands.terminal import number_of
from synaug.commands.verify import find_experiments
from synaug.commands.verify_manifests import content_fault
from synaug.generation.locks import is_file_locked, is_locked
from synaug.manifests import count_rows
from synaug.plan.shards import EXTRA_FILES, planned_shards
from synaug.runtime.errors import UserError


def find_orphans(results: Path) -> list[Path]:
    """Shards below `results` that no plan names, with their scores, work folders and cost files.

    An experiment without a plan keeps its shards: they may be all that is left of it. So does one whose run is not
    finished (`find_unfinished`). Kept are also shards that the manifests of accepted images name, the work folders of
    jobs that are running, and those of extra files (`EXTRA_FILES`), which no plan names. Raises UserError for a plan
    that lacks rows or was changed: it may no longer name shards that are needed.
    """
    orphans, plans = [], sorted(results.glob("*/plan.parquet"))
    for path in [path for plan in plans for path in (plan, plan.with_name("pilot.parquet"))]:
        if path.exists() and (fault := content_fault(path)):
            raise UserError(f"{path}: {fault}", advice="delete it, run the workflow again, and then prune")
    unfinished = find_unfinished(results)
    for plan in plans:
        if plan.parent in unfinished:
            continue
        planned = planned_shards(plan.parent) | _shards_in_use(plan.parent)
        for pattern in ("shards/*.parquet", "scores/*.parquet", "work/*", "costs/*.json"):
            orphans += [path for path in sorted(plan.parent.glob(pattern)) if path.stem not in planned]
    return [
        path
        for path in orphans
        if path.parent.name != "work" or not (_is_extra(path.name) or is_locked(results, path.name))
    ]


def find_unfinished(results: Path) -> list[Path]:
    """The experiments below `results` that lack a shard of their plan: shards of an older plan may hold its images."""
    return [
        plan.parent
        for plan in sorted(results.glob("*/plan.parquet"))
        if any(not (plan.parent / "shards" / f"{name}.parquet").exists() for name in planned_shards(plan.parent))
    ]


def _shards_in_use(experiment: Path) -> set[str]:
    """The shards that synthetic.parquet and balanced.parquet name: they may be older than the plan."""
    manifests = [name for name in ("synthetic", "balanced") if (experiment / f"{name}.parquet").exists()]
    paths = (count_rows(name, experiment / f"{name}.parquet", ["path"])["path"] for name in manifests)
    return {Path(path).stem for of_manifest in paths for path in of_manifest.dropna()}


def _is_extra(name: str) -> bool:
    """Whether the work folder `name` is that of an extra file."""
    return any(fnmatch(f"{name}.parquet", pattern) for pattern in EXTRA_FILES)


def find_pixel_caches(results: Path) -> list[Path]:
    """The decoded images of every experiment below `results` (see `PixelCache`), unless a job is adding some.

    A job that only reads some holds no lock. On a network file system it fails if another machine deletes them.
    """
    folders = sorted(results.glob("*/pixels"))
    return [folder for folder in folders if not any(map(is_file_locked, folder.glob("*/lock")))]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; a link has none."""
    if path.is_symlink():
        return 0
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def delete(paths: list[Path]) -> None:
    """Delete files and folders."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():  # what a link leads to may be used elsewhere
            shutil.rmtree(path)
        else:
            path.unlink()


def prune(
    results: Annotated[Path, typer.Argument(help="The folder of all experiments.")] = Path("results"),
    delete_: Annotated[bool, typer.Option("--delete", help="Delete what is listed.")] = False,
) -> None:
    """List or delete unused shards and caches of decoded images.

    Such shards are left over from earlier settings. They are kept so that returning to these settings is free. This
    command lists them with their size, and deletes them if you add --delete. Other experiments have copies of the
    images that they share. An experiment whose run is not finished keeps all its shards. The command also lists the
    scores of such shards, and their work folders, with the finished images of jobs that were interrupted, unless a job
    is using them.

    The folder pixels/ of every experiment is listed too: small images that were decoded once for all its networks. If
    you delete it, the next training decodes them again. Do not add --delete while networks are trained on other
    machines: those that read these images would fail.

    \b
    Example:
      synaug prune --delete
    """
    if results.is_dir() and not any(results.iterdir()):
        print("nothing to delete")
        return
    if find_experiments(results) == [results]:
        raise UserError(f"{results}: is one experiment", advice="name the folder that holds all experiments")
    orphans, caches = find_orphans(results), find_pixel_caches(results)
    for experiment in find_unfinished(results):
        print(f"{experiment}: its run is not finished, so that its shards are kept")
    if not orphans and not caches:
        has_plan = any(results.glob("*/plan.parquet"))
        print(f"nothing to delete{'' if has_plan else ': there is no plan, and without one all shards are kept'}")
        return
    for path in [*orphans, *caches]:
        print(path)
    counts = [number_of(len(paths), name) for paths, name in ((orphans, "orphan"), (caches, "pixel cache")) if paths]
    total = f"{', '.join(counts)}, {sum(map(size_of, [*orphans, *caches])) / 1e6:.1f} MB"
    if delete_:
        delete([*orphans, *caches])
        print(f"deleted {total}")
    else:
        print(f"{total}; to delete them, add --delete")
