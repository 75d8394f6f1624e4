"""A contact sheet of the images of any manifest that has some."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from synaug.errors import UserError
from synaug.manifests import atomic_path, with_group
from synaug.preview import IMAGES_PER_CLASS, SheetRow, cell_name, draw_sheet
from synaug.tools.stored import stream_images, workflow_folder

_MOST = 120  # rows of a sheet, or it would be too large to open
_ID = 12  # letters of an id below an image: its beginning will do for `synaug regenerate`
_CELL = ["label_name", "group", "kind_of_image"]


def draw_sheet_of(manifest: Path, out: Path) -> tuple[int, int]:
    """Draw some images of every class, group and source (or split) in `manifest` to the PNG `out`.

    Returns how many of these are on the sheet, and how many there are: of many, some from all over the list are drawn.
    Raises UserError if the manifest has no images.
    """
    names = pq.read_schema(manifest).names
    inside = "image" in names
    if "label_name" not in names or not (inside or {"path", "row", "column"} <= set(names)):
        raise UserError(f"{manifest}: has no images to draw; real, balanced, synthetic, scores and shards have some")
    wanted = ["label_name", "group", "source", "split", "image_id", "prompt", "path", "row", "column", "usable"]
    rows = pq.read_table(manifest, columns=[name for name in wanted if name in names]).to_pandas()
    rows = with_group(rows.astype(dict.fromkeys(rows.select_dtypes("category"), "str")))
    if inside:
        rows = rows.assign(path=str(manifest.absolute()), row=range(len(rows)), column="image")
    rows = rows[rows["path"].notna() & rows.get("usable", True)]
    beside = next((name for name in ("source", "split") if name in rows), None)
    rows = rows.assign(kind_of_image=rows[beside] if beside else "")
    sizes = rows.groupby(_CELL, sort=True).size()
    places = {i * (len(sizes) - 1) // (_MOST - 1) for i in range(_MOST)} if len(sizes) else []
    drawn = sizes.iloc[sorted(places)]
    if drawn.empty:
        raise UserError(f"{manifest}: has no row with an image")
    # By id, which is a hash: the same ones each time, and none preferred.
    few = rows.sort_values("image_id").groupby(_CELL).head(IMAGES_PER_CLASS)
    few = few[pd.MultiIndex.from_frame(few[_CELL]).isin(drawn.index)].reset_index(drop=True)
    root = workflow_folder(manifest)
    data = {position: image for position, image, _ in stream_images(few, root)}
    captions = few["prompt"] if "prompt" in few else few["image_id"].str[:_ID]
    few = few.assign(image=pd.Series(data), caption=captions)
    of_cell = dict(list(few.groupby(_CELL)))
    sheet = []
    for (label_name, group, kind_of_image), count in drawn.items():
        own = of_cell[label_name, group, kind_of_image]
        note = f"{count:,} {kind_of_image} image{'s' * (count != 1)}".replace("  ", " ")
        sheet.append(SheetRow(cell_name(label_name, group), note, list(zip(own["image"], own["caption"], strict=True))))
    with atomic_path(out) as temporary:
        draw_sheet(sheet).save(temporary, "PNG")
    return len(drawn), len(sizes)
