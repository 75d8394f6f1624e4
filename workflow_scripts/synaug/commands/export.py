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
import pyarrow.parquet as pq
import typer
from PIL import Image

from synaug import __version__
from synaug.commands.cards import render_card
from synaug.commands.export_layouts import FIELDS, PROVENANCE, ImageFiles, ParquetFiles, TarFiles
from synaug.commands.hub_upload import check_new_repository, folder_of_export, upload
from synaug.commands.terminal import number_of, progress
from synaug.datasets.conversion import ORIGIN
from synaug.images.codec import FORMATS
from synaug.images.store import stream_images
from synaug.manifests import count_rows, read_manifest, with_fill, with_group
from synaug.runtime.errors import UserError
from synaug.runtime.files import new_folder
from synaug.runtime.paths import local_path, results_root

# Fields of synthetic images that the card names together with the number of images.
_HOW = ("model", "model_version", "licence", "pipeline", "adapters", "scheduler", "steps", "guidance")
# Images below this number -> the category of the hub.
_SIZES = {
    10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M", 10**8: "10M<n<100M",
    10**9: "100M<n<1B",
}  # fmt: skip
_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif"}  # the extension of other formats is their name


class Layout(StrEnum):
    """Layout of an exported set: folders of classes, Hugging Face (Parquet), WebDataset tars, or files and a CSV."""

    imagefolder = "imagefolder"
    hf = "hf"
    webdataset = "webdataset"
    csv = "csv"


def read_balanced(experiment: Path, fill: str | None = None) -> pd.DataFrame:
    """The balanced training set of `experiment`, a folder of results/: rows of the manifest `balanced`.

    fill: of its fills, since each completes the classes; None: the only one. Raises UserError if there is no such set.
    """
    path = experiment / "balanced.parquet"
    if not path.exists():
        raise UserError(
            f"{path}: no such file", advice="name a folder of results/ whose balanced training set is finished"
        )
    rows = with_fill(with_group(read_manifest("balanced", path)))
    synthetic = rows["source"] == "synthetic"
    fills = sorted(rows.loc[synthetic, "fill"].unique())
    if fill is None and len(fills) > 1:
        raise UserError(f"{path}: has {len(fills)} fills, and each completes the classes", advice=_choose(fills))
    if fill is not None and fill not in fills:
        raise UserError(f"--fill: {path} has no fill {fill!r}", advice=_choose(fills))
    return rows if fill is None else rows[~synthetic | (rows["fill"] == fill)].reset_index(drop=True)


def _choose(fills: list[str]) -> str:
    return f"add --fill {' or --fill '.join(fills)}" if any(fills) else "leave it out"


def export_images(
    rows: pd.DataFrame,
    experiment: Path,
    layout: Layout,
    out: Path,
    on_image: Callable[[int], None] = lambda count: None,
    repository: str | None = None,
) -> Path:
    """Write `rows` (of the manifest `balanced` of `experiment`) to the new folder `out`, with a data card.

    Image files are copied unchanged. on_image: called with 1 after each. repository: on the hub, for the card.
    Returns `out`.
    Raises UserError if `out` exists and is not empty, or if an image is missing or does not have its recorded hash;
    then `out` is not created.
    """
    names = rows.drop_duplicates("label").set_index("label")["label_name"]
    classes = [str(names.get(label, f"class {label}")) for label in range(rows["label"].max() + 1)]
    columns = [name for name in FIELDS if name in rows]
    records = rows[columns].astype(object).where(rows[columns].notna(), None)
    generators: Counter[tuple] = Counter()  # values of _HOW -> images
    with new_folder(out) as folder:
        with _open_layout(layout, folder, classes, len(rows)) as writer:
            root = results_root(os.path.abspath(experiment / "balanced.parquet"))
            for position, data, provenance in stream_images(rows, root, PROVENANCE):
                fields = dict.fromkeys(FIELDS) | records.iloc[position].to_dict()
                if fields["source"] == "synthetic":
                    fields |= provenance
                    generators[tuple(fields[name] for name in _HOW)] += 1
                _check_hash(data, fields, rows["path"].iloc[position])
                writer.add(fields["image_id"], data, extension_of(data), fields)
                on_image(1)
        card = data_card(rows, classes, generators, layout, experiment, repository)
        (folder / "README.md").write_text(card, encoding="utf-8")
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


def data_card(
    rows: pd.DataFrame,
    classes: list[str],
    generators: Counter,
    layout: Layout,
    experiment: Path,
    repository: str | None = None,
) -> str:
    """The README of an exported set. generators: images per _HOW. repository: where it is on the hub."""
    counts = rows.groupby(["label", "source"]).size().unstack(fill_value=0)
    counts = counts.reindex(index=range(len(classes)), columns=["real", "synthetic"], fill_value=0)
    return render_card(
        "data_card.md.j2",
        classes=[(name, *counts.loc[label].tolist()) for label, name in enumerate(classes)],
        total=counts.sum().tolist(),
        groups=(rows["group"] != "").any(),
        generators=[dict(zip(_HOW, key, strict=True)) | {"count": count} for key, count in generators.most_common()],
        origins=_origins(rows, experiment),
        rejected=_rejected(experiment, set(rows["fill"])),
        size_category=next(category for limit, category in _SIZES.items() if len(rows) < limit),
        layout=layout,
        experiment=experiment.name,
        place=repository or "path/of/this/folder",
        version=__version__,
    )


def _origins(rows: pd.DataFrame, experiment: Path) -> list[str]:
    """What the data set of the real images is called elsewhere, if the tables that they were converted to know it."""
    root = results_root(os.path.abspath(experiment / "balanced.parquet"))
    tables = [path for path in rows.loc[rows["source"] == "real", "path"].unique() if path.endswith(".parquet")]
    known = [(pq.read_schema(local_path(path, root)).metadata or {}).get(ORIGIN.encode()) for path in tables]
    return sorted({origin.decode() for origin in known if origin})


def _rejected(experiment: Path, fills: set[str]) -> int:
    """The number of synthetic images of these fills that the screening has rejected."""
    path = experiment / "synthetic.parquet"
    if not path.exists():
        return 0
    images = with_fill(count_rows("synthetic", path, ["accepted", "fill"]))
    return int(images.loc[~images["accepted"].astype(bool) & images["fill"].isin(fills), "rows"].sum())


def _check_hash(data: bytes, fields: dict, path: str) -> None:
    if data is None or hashlib.sha256(data).hexdigest() != fields["sha256"]:
        raise UserError(
            f"{path}: image {fields['image_id']} does not have its recorded hash",
            advice="if it is synthetic, `synaug verify` names the remedy; if it is real, run the workflow again",
        )


def export(
    experiment: Annotated[Path, typer.Argument(help="Folder of an experiment in results/.")],
    out: Annotated[
        Path | None, typer.Argument(help="Folder to create.", show_default="with --hub: the name there")
    ] = None,
    layout: Annotated[
        Layout | None,
        typer.Option(
            "--format",
            help="Folders of classes, a Hugging Face data set (Parquet), WebDataset tars, or image files and a CSV.",
            show_default="imagefolder, with --hub hf",
        ),
    ] = None,
    hub: Annotated[
        str | None,
        typer.Option(metavar="[OWNER/]NAME", help="Also upload it to the Hugging Face hub, as a new data set."),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --hub: everybody may read it.")] = False,
    fill: Annotated[str | None, typer.Option(help="The fill, if the experiment has several.")] = None,
) -> None:
    """Write the balanced training set for other tools.

    The set holds the real and synthetic training images of an experiment. Every image comes with its source, licence,
    model, prompt and seed, and a README.md describes the set. Image files are copied unchanged.

    With --hub the folder is also uploaded, to a new private data set. That needs a token (`hf auth login`). Before
    --public, make sure that the licences of the images allow it. `synaug export-model --hub` uploads a network.

    \b
    Example:
      synaug export results/mine balanced_mine --format hf
      synaug export results/mine --hub balanced_mine
    """
    out = folder_of_export(out, hub, public)
    layout = layout or (Layout.hf if hub else Layout.imagefolder)
    if hub and layout is not Layout.hf:
        raise UserError(f"--format: {layout} is not uploaded to the hub", advice="leave it out: the hub shows Parquet")
    experiment = Path(os.path.abspath(experiment))  # `.` has no name
    rows = read_balanced(experiment, fill)
    repository = check_new_repository(hub, "dataset") if hub else None
    with progress("exporting", len(rows)) as advance:
        export_images(rows, experiment, layout, out, advance, repository)
    print(f"{out}: {number_of(len(rows), 'image')} as {layout}; see {out / 'README.md'}")
    if repository:
        print(upload(out, repository, "dataset", public))
