"""`synaug prune`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from synaug.commands.terminal import number_of
from synaug.runtime.errors import UserError


def prune(
    results: Annotated[Path, typer.Argument(help="The folder of all experiments.")] = Path("results"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
) -> None:
    """List shards that no plan names, and delete them.

    They go once you have agreed. The same as `snakemake --cores 1 prune`, which does not ask. Other experiments may
    have copied their images; nothing depends on them.

    \b
    Example:
      synaug prune
    """
    from synaug.tools.prune import delete, orphans, size_of

    if not results.is_dir():
        raise UserError(f"{results}: no such folder; name the one that holds the experiments")
    if (results / "plan.parquet").exists():
        raise UserError(f"{results}: is one experiment; name the folder that holds all of them")
    found = orphans(results)
    for path in found:
        print(path)
    if not found:
        print("nothing to delete: a plan names every shard")
        return
    what = f"{number_of(len(found), 'orphan')}, {sum(map(size_of, found)) / 1e6:.1f} MB"
    if not yes:
        if not sys.stdin.isatty():
            raise UserError(f"{what}: not deleted, since nobody can be asked here; say --yes")
        typer.confirm(f"Delete {what}?", abort=True)
    delete(found)
    print(f"deleted {what}")
