"""`synaug regenerate`."""

import logging
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer


def regenerate(
    image_ids: Annotated[list[str], typer.Argument(help="Ids of synthetic images, or beginnings of them.")],
    results: Annotated[Path, typer.Option(help="Folder to look for them in, or an experiment in it.")] = Path(
        "results"
    ),
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda:1, ...  [default: a free one]", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option(help="Folder of their model, if it has moved.")] = None,
) -> None:
    """Make images again and compare them.

    They are made from their rows alone, and compared by the hash of the file. Says of each: same; differs, by how
    much, and what is not as it was when the image was made; or cannot, and why. Paths are those of the workflow:
    call it in the folder from which snakemake is called.

    \b
    Example:
      synaug regenerate 4da9041f
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
