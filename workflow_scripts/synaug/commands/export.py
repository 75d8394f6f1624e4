"""`synaug export`: the balanced training set in a layout that other libraries read, with provenance."""

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from PIL import Image

from synaug import __version__
from synaug.commands.cards import render_card
from synaug.commands.export_layouts import FIELDS, PROVENANCE, ImageFiles, ParquetFiles, TarFiles
from synaug.commands.terminal import number_of, progress
from synaug.images.codec import FORMATS
from synaug.images.store import stream_images
from synaug.manifests import read_manifest, with_group
from synaug.runtime.errors import UserError
from synaug.runtime.files import new_folder
from synaug.runtime.paths import results_root

_EXTENSIONS = {"JPEG": "jpg", "TIFF": "tif"}  # the extension of other formats is their name


class Layout(StrEnum):
    """Layout of an exported set: folders of classes, Hugging Face (Parquet), WebDataset tars, or files and a CSV."""

    imagefolder = "imagefolder"
    hf = "hf"
    webdataset = "webdataset"
    csv = "csv"


def read_balanced(experiment: Path) -> pd.DataFrame:
    """The manifest `balanced` of `experiment`, a folder of results/. Raises UserError if there is none."""
    path = experiment / "balanced.parquet"
    if not path.exists():
        raise UserError(
            f"{path}: no such file", advice="name a folder of results/ whose balanced training set is finished"
        )
    return with_group(read_manifest("balanced", path))


def export_images(
    rows: pd.DataFrame,
    experiment: Path,
    layout: Layout,
    out: Path,
    on_image: Callable[[int], None] = lambda count: None,
) -> Path:
    """Write `rows` (of the manifest `balanced` of `experiment`) to the new folder `out`, with a data card.

    Image files are copied unchanged. on_image: called with 1 after each. Returns `out`.
    Raises UserError if `out` exists and is not empty, or if an image is missing or does not have its recorded hash;
    then `out` is not created.
    """
    names = rows.drop_duplicates("label").set_index("label")["label_name"]
    classes = [str(names.get(label, f"class {label}")) for label in range(rows["label"].max() + 1)]
    columns = [name for name in FIELDS if name in rows]
    records = rows[columns].astype(object).where(rows[columns].notna(), None)
    generators: Counter[tuple] = Counter()  # (model, version, licence) -> images
    with new_folder(out) as folder:
        with _open_layout(layout, folder, classes, len(rows)) as writer:
            root = results_root(os.path.abspath(experiment / "balanced.parquet"))
            for position, data, provenance in stream_images(rows, root, PROVENANCE):
                fields = dict.fromkeys(FIELDS) | records.iloc[position].to_dict()
                if fields["source"] == "synthetic":
                    fields |= provenance
                    generators[fields["model"], fields["model_version"], fields["licence"]] += 1
                _check_hash(data, fields, rows["path"].iloc[position])
                writer.add(fields["image_id"], data, extension_of(data), fields)
                on_image(1)
        (folder / "README.md").write_text(
            data_card(rows, classes, generators, layout, experiment.name), encoding="utf-8"
        )
    return out


def _open_layout(layout: Layout, out: Path, classes: list[str], count: int) -> ImageFiles | ParquetFiles | TarFiles:
    """The writer of `count` images of `classes` to the folder `out`."""
    match layout:
        case Layout.hf:
            return ParquetFiles(out, classes, count)
        case Layout.webdataset:
            return TarFiles(out, count)
        case _:
            return ImageFiles(out, classes, by_class=layout is Layout.imagefolder)


def extension_of(data: bytes) -> str:
    """The usual file extension of an encoded image."""
    format_ = Image.open(io.BytesIO(data), formats=FORMATS).format
    return _EXTENSIONS.get(format_, format_.lower())


def data_card(rows: pd.DataFrame, classes: list[str], generators: Counter, layout: Layout, experiment: str) -> str:
    """The README of an exported set. generators: images per (model, version, licence)."""
    counts = rows.groupby(["label", "source"]).size().unstack(fill_value=0)
    counts = counts.reindex(index=range(len(classes)), columns=["real", "synthetic"], fill_value=0)
    return render_card(
        "data_card.md.j2",
        classes=[(name, *counts.loc[label].tolist()) for label, name in enumerate(classes)],
        total=counts.sum().tolist(),
        groups=(rows["group"] != "").any(),
        generators=[(*key, count) for key, count in sorted(generators.items(), key=str)],
        layout=layout,
        experiment=experiment,
        version=__version__,
    )


def _check_hash(data: bytes, fields: dict, path: str) -> None:
    if data is None or hashlib.sha256(data).hexdigest() != fields["sha256"]:
        raise UserError(
            f"{path}: image {fields['image_id']} does not have its recorded hash",
            advice="if it is synthetic, `synaug verify` names the remedy; if it is real, run the workflow again",
        )


def export(
    experiment: Annotated[Path, typer.Argument(help="Folder of an experiment in results/.")],
    out: Annotated[Path, typer.Argument(help="Folder to create.")],
    layout: Annotated[
        Layout,
        typer.Option(
            "--format",
            help="Folders of classes, a Hugging Face data set (Parquet), WebDataset tars, or image files and a CSV.",
        ),
    ] = Layout.imagefolder,
) -> None:
    """Write the balanced training set for other tools.

    The set holds the real and synthetic training images of an experiment. Every image comes with its source, licence,
    model, prompt and seed, and a README.md describes the set. Image files are copied unchanged.

    \b
    Example:
      synaug export results/mine balanced_mine --format hf
    """
    rows = read_balanced(experiment)
    with progress("exporting", len(rows)) as advance:
        export_images(rows, experiment, layout, out, advance)
    print(f"{out}: {number_of(len(rows), 'image')} as {layout}; see {out / 'README.md'}")
