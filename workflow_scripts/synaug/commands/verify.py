"""`synaug verify`."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from synaug.commands.terminal import number_of, progress


def verify(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="results/ (the default), or experiments in it.", show_default=False),
    ] = None,
) -> None:
    """Check every stored image.

    Every image of every shard against its recorded hash, and every row that points at one. One line for each
    finding says what is wrong, where, and what to delete or to make again. Nothing is changed.

    \b
    Example:
      synaug verify results/mine
    """
    from synaug.integrity import files_to_check, find_experiments, verify

    experiments = [one for folder in folders or [Path("results")] for one in find_experiments(folder)]
    count, findings = Counter(), 0
    with progress("checking", sum(len(files_to_check(one)) for one in experiments)) as advance:
        for experiment in experiments:
            for checked in verify(experiment):
                for line in checked.findings:
                    print(line, flush=True)
                findings += len(checked.findings)
                count[checked.path.parent.name == "shards"] += 1
                count["images"] += checked.images
                count["not made"] += checked.not_made
                advance(1)
    not_made = count["not made"]
    later = (
        f"; {number_of(not_made, 'planned shard')} {'is' if not_made == 1 else 'are'} not made yet" if not_made else ""
    )
    print(
        f"{number_of(findings, 'finding')} in {number_of(len(experiments), 'experiment')}: "
        f"{number_of(count[True], 'shard')}, {number_of(count['images'], 'image')}, "
        f"{number_of(count[False], 'other file')}{later}"
    )
    raise typer.Exit(1 if findings else 0)
