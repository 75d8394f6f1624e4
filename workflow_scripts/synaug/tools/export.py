"""The balanced set of an experiment, written for others, with the provenance of every image."""

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jinja2
import pandas as pd
from PIL import Image

from synaug import __version__
from synaug.images.codec import FORMATS
from synaug.images.store import stream_images
from synaug.manifests import read_manifest, with_group
from synaug.runtime.errors import UserError
from synaug.runtime.files import new_folder
from synaug.runtime.paths import results_root
from synaug.tools.layouts import FIELDS, PROVENANCE, Files, Parquet, Tars

LAYOUTS = ("imagefolder", "hf", "webdataset", "csv")
_ENDINGS = {"JPEG": "jpg", "TIFF": "tif"}  # of other formats it is their name


def open_layout(layout: str, out: Path, classes: list[str], count: int) -> Files | Parquet | Tars:
    """What writes `count` images of `classes` below `out` in the form `layout`, one of LAYOUTS."""
    if layout == "hf":
        return Parquet(out, classes, count)
    return Tars(out, count) if layout == "webdataset" else Files(out, classes, by_class=layout == "imagefolder")


def read_balanced(experiment: Path) -> pd.DataFrame:
    """The manifest `balanced` of `experiment`. Raises UserError if there is none."""
    path = experiment / "balanced.parquet"
    if not path.exists():
        raise UserError(f"{path}: no such file; name a folder of results/ whose balanced set is made")
    return with_group(read_manifest("balanced", path))


def export(
    rows: pd.DataFrame, experiment: Path, layout: str, out: Path, done: Callable[[int], None] = lambda count: None
) -> Path:
    """Write `rows` (of the manifest `balanced` of `experiment`) to the folder `out` as one of LAYOUTS, with a card.

    Image files are copied as they are, one after the other; `done` is called after each. Returns `out`.
    Raises UserError if `out` is there already, or if an image is gone or does not have its recorded hash; `out` is not
    there then.
    """
    names = rows.drop_duplicates("label").set_index("label")["label_name"]
    classes = [str(names.get(label, f"class {label}")) for label in range(rows["label"].max() + 1)]
    own = [name for name in FIELDS if name in rows]
    records = rows[own].astype(object).where(rows[own].notna(), None)
    generators: Counter[tuple] = Counter()
    with new_folder(out) as folder:
        with open_layout(layout, folder, classes, len(rows)) as written:
            images = stream_images(rows, results_root(os.path.abspath(experiment / "balanced.parquet")), PROVENANCE)
            for position, data, known in images:
                fields = dict.fromkeys(FIELDS) | records.iloc[position].to_dict()
                if fields["source"] == "synthetic":
                    fields |= known
                    generators[fields["model"], fields["model_version"], fields["licence"]] += 1
                _check(data, fields, rows["path"].iloc[position])
                written.add(fields["image_id"], data, ending_of(data), fields)
                done(1)
        (folder / "README.md").write_text(card(rows, classes, generators, layout, experiment.name), encoding="utf-8")
    return out


def ending_of(data: bytes) -> str:
    """The usual ending of the name of a file that holds this encoded image."""
    kind = Image.open(io.BytesIO(data), formats=FORMATS).format
    return _ENDINGS.get(kind, kind.lower())


def card(rows: pd.DataFrame, classes: list[str], generators: Counter, layout: str, experiment: str) -> str:
    """The README of an exported set. generators: images per (model, version, licence)."""
    counts = rows.groupby(["label", "source"]).size().unstack(fill_value=0)
    counts = counts.reindex(index=range(len(classes)), columns=["real", "synthetic"], fill_value=0)
    loader = jinja2.Environment(
        loader=jinja2.PackageLoader("synaug.tools", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return loader.get_template("data_card.md.j2").render(
        classes=[(name, *counts.loc[label].tolist()) for label, name in enumerate(classes)],
        total=counts.sum().tolist(),
        groups=(rows["group"] != "").any(),
        generators=[(*key, count) for key, count in sorted(generators.items(), key=str)],
        layout=layout,
        experiment=experiment,
        version=__version__,
    )


def _check(data: bytes, fields: dict, path: str) -> None:
    if data is None or hashlib.sha256(data).hexdigest() != fields["sha256"]:
        raise UserError(
            f"{path}: image {fields['image_id']} does not have its recorded hash; `synaug verify` says what to do, and "
            "a real image that was changed needs another run of the workflow"
        )
