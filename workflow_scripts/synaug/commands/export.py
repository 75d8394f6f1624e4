"""`synaug export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from synaug.commands.terminal import number_of, progress


class Layout(StrEnum):
    """Forms of an exported set; the same names as in `synaug.tools.export`, which is not imported for help."""

    imagefolder = "imagefolder"
    hf = "hf"
    webdataset = "webdataset"
    csv = "csv"


def export(
    experiment: Annotated[Path, typer.Argument(help="Folder of an experiment in results/.")],
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    layout: Annotated[
        Layout,
        typer.Option(
            "--format",
            help="Folders of classes, a Hugging Face data set (Parquet), WebDataset tars, or files and a CSV.",
        ),
    ] = Layout.imagefolder,
) -> None:
    """Write the balanced set for other tools.

    It is the training set of an experiment, real and synthetic images. Source, licence, model, prompt and seed
    stand beside each image, and a README.md says what the set is. Image files are copied as they are.

    \b
    Example:
      synaug export results/mine balanced_mine --format hf
    """
    from synaug.tools.export import export, read_balanced

    rows = read_balanced(experiment)
    with progress("exporting", len(rows)) as advance:
        export(rows, experiment, layout.value, out, advance)
    print(f"{out}: {number_of(len(rows), 'image')} as {layout.value}; see {out / 'README.md'}")
