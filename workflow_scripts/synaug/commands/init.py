"""`synaug init`: a config for images of one's own."""

from pathlib import Path
from typing import Annotated

import typer


def init(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of images (<class>/<image>), or a table.")],
    name: Annotated[str | None, typer.Option(help="Of the experiment.  [default: the folder's]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the files if they exist.")] = False,
    image: Annotated[str | None, typer.Option(help="Column of a table that holds images or paths.")] = None,
    label: Annotated[str | None, typer.Option(help="Column that holds the class.")] = None,
    split: Annotated[str | None, typer.Option(help="Column that holds the split.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Column of groups; may be given several times.")] = None,
) -> None:
    """Look at your images and write a config that runs.

    Says what is there: classes, counts, sizes, broken files, copies. The config goes into the current folder.

    \b
    Example:
      synaug init photos --name flowers
    """
    from synaug.init import init

    print(init(path, name, force, image, label, split, group))
