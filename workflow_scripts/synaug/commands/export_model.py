"""`synaug export-model`."""

from pathlib import Path
from typing import Annotated

import typer

from synaug.commands.terminal import progress


def export_model(
    model: Annotated[Path, typer.Argument(help="results/<experiment>/<stage>/<recipe>/<seed>.")],
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    onnx: Annotated[bool, typer.Option(help="Write model.onnx too, which needs the extra onnx.")] = True,
) -> None:
    """Write a trained network for use elsewhere.

    Weights, a description of them, ONNX, and a model card with its figures.

    model.onnx takes images as they are (uint8, 0 to 255) and gives probabilities; it is compared with the network.

    \b
    Example:
      synaug export-model results/mine/finetune/synaug/0 my_classifier
    """
    from synaug.tools.package import find_trained, package

    trained = find_trained(model)
    with progress("exporting", None):
        names = package(trained, out, onnx)
    print(f"{out}: {', '.join(names)}")
