"""`synaug predict`."""

import csv
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synaug.commands.terminal import number_of, progress

if TYPE_CHECKING:
    from synaug.tools.classify import Answer


class Form(StrEnum):
    """How answers are written."""

    text = "text"
    csv = "csv"
    json = "json"


def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    model: Annotated[
        Path | None,
        typer.Option(help="Folder of a trained network, its model.safetensors, or a folder of `export-model`."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to say of each image.")] = 1,
    form: Annotated[Form, typer.Option("--format", help="Text, CSV, or JSON with an object on each line.")] = Form.text,
) -> None:
    """Say which class images show.

    Each with its probability, by a network that the workflow trained. An image that cannot be read is named on
    standard error, and the exit status is 1.

    \b
    Example:
      synaug predict photos/ --model results/mine/finetune/synaug/0 --top 3
    """
    from synaug.tools.classify import classify, find_images, find_model, load_network

    path = find_model(model)
    found = find_images(images)
    network = load_network(path)
    top = min(top, len(network.config["classes"]))
    table = csv.writer(sys.stdout, lineterminator="\n")
    if form is Form.csv:
        heads = [(f"class_{i}", f"probability_{i}") if i > 1 else ("class", "probability") for i in range(1, top + 1)]
        table.writerow(["image", *(name for pair in heads for name in pair)])
    broken = 0
    with progress("classifying", len(found)) as advance:
        for answer in classify(network, found, top):
            if answer.fault:
                broken += 1
                print(f"{answer.path}: {answer.fault}", file=sys.stderr, flush=True)
            elif form is Form.csv:
                table.writerow([answer.path, *(value for one in answer.classes for value in (one[0], f"{one[1]:.6f}"))])
            else:
                print(_line(answer, form))
            advance(1)
    if broken and len(found) > 1:
        print(f"{number_of(broken, 'image')} of {len(found):,} cannot be used", file=sys.stderr)
    raise typer.Exit(1 if broken else 0)


def _line(answer: "Answer", form: Form) -> str:
    if form is Form.json:
        classes = [{"class": name, "probability": round(value, 6)} for name, value in answer.classes]
        return json.dumps({"image": str(answer.path), "classes": classes}, ensure_ascii=False)
    return f"{answer.path}: " + ", ".join(f"{name} {value:.3f}" for name, value in answer.classes)
