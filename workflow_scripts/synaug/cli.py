"""The command `synaug`: proof that the images in results/ are what their rows say.

Exit status: 0 nothing found, 1 a finding (an image that differs, a damaged shard), 2 a user error.
"""

import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from synaug import __version__
from synaug.errors import ERROR_PREFIX, UserError

# The modules that do the work are imported by the commands: help must not wait for torch.
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Prove that the images in results/ are what their rows say. To make them, call snakemake.",
    epilog="Exit status: 0 nothing found, 1 something found, 2 an error in what was asked for.",
)


def main() -> None:
    """Run the command; an error of the user is one line on standard error."""
    try:
        app()
    except UserError as error:
        print(f"{ERROR_PREFIX}{error}", file=sys.stderr)
        sys.exit(2)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"synaug {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and end.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of images (<class>/<image>), or a table.")],
    name: Annotated[str | None, typer.Option(help="Of the experiment.  [default: the folder's]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the files if they exist.")] = False,
    image: Annotated[str | None, typer.Option(help="Column of a table that holds images or paths.")] = None,
    label: Annotated[str | None, typer.Option(help="Column that holds the class.")] = None,
    split: Annotated[str | None, typer.Option(help="Column that holds the split.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Column of groups; may be given several times.")] = None,
) -> None:
    """Look at your images, say what is there, and write a config that runs into the current folder."""
    from synaug.init import init

    print(init(path, name, force, image, label, split, group))


@app.command()
def verify(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FOLDER]...", help="results/ (the default), or experiments in it.", show_default=False),
    ] = None,
) -> None:
    """Check every image of every shard against its recorded hash, and every row that points at one.

    One line for each finding says what is wrong, where, and what to delete or to make again. Nothing is changed.
    """
    from synaug.integrity import find_experiments, verify

    experiments = [one for folder in folders or [Path("results")] for one in find_experiments(folder)]
    count, findings = Counter(), 0
    with _progress(experiments) as advance:
        for experiment in experiments:
            for checked in verify(experiment):
                for line in checked.findings:
                    print(line, flush=True)
                findings += len(checked.findings)
                count[checked.path.parent.name == "shards"] += 1
                count["images"] += checked.images
                count["not made"] += checked.not_made
                advance()
    not_made = count["not made"]
    later = f"; {_count(not_made, 'planned shard')} {'is' if not_made == 1 else 'are'} not made yet" if not_made else ""
    print(
        f"{_count(findings, 'finding')} in {_count(len(experiments), 'experiment')}: {_count(count[True], 'shard')}, "
        f"{_count(count['images'], 'image')}, {_count(count[False], 'other file')}{later}"
    )
    raise typer.Exit(1 if findings else 0)


@app.command()
def regenerate(
    image_ids: Annotated[
        list[str], typer.Argument(metavar="IMAGE_ID...", help="Ids of synthetic images, or beginnings of them.")
    ],
    results: Annotated[Path, typer.Option(help="Folder to look for them in, or an experiment in it.")] = Path(
        "results"
    ),
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda:1, ...  [default: a free one]", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option(help="Folder of their model, if it has moved.")] = None,
) -> None:
    """Make images again from their rows alone, and compare the hash of the file.

    Says of each: same; differs, by how much, and what is not as it was when the image was made; or cannot, and why.
    Paths are those of the workflow: call it in the folder from which snakemake is called.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars of the libraries, for each part of each model
    from synaug.generation.proof import find_rows, regenerate

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    rows = find_rows(image_ids, results)
    count = Counter()
    for outcome in regenerate(rows, device, model, say=lambda text: print(text, file=sys.stderr, flush=True)):
        count[outcome.status] += 1
        print(f"{outcome.image_id} {outcome.status}{': ' if outcome.detail else ''}{outcome.detail}", flush=True)
    # An image that differs says something of the image, one that cannot be made only of what is there now.
    raise typer.Exit(1 if count["differs"] else 2 if count["cannot"] else 0)


def _count(number: int, what: str) -> str:
    return f"{number or 'no':{',' if number else ''}} {what}{'' if number == 1 else 's'}"


@contextmanager
def _progress(experiments: list[Path]) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, over the files to check; a function to call after each of them."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    from synaug.integrity import files_to_check

    # Findings are printed above the bar.
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("checking", total=sum(len(files_to_check(one)) for one in experiments))
        yield lambda: bar.advance(task)


if __name__ == "__main__":
    main()
