"""Contact sheets: one row of images per class, or per class in a group."""

import io
import math
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from synaug.images.reader import stream_images, workflow_folder
from synaug.manifests import with_group
from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path

IMAGES_PER_CLASS = 4
# Lengths in pixels.
_GAP = 8
_NAME_WIDTH = 200
_LINE = 14
_CAPTION_LINES = 4
_MOST = 120  # rows of a sheet, or it would be too large to open
_ID = 12  # letters of an id below an image: its beginning will do for `synaug regenerate`
_CELL = ["label_name", "group", "kind_of_image"]
_INK, _FAINT, _PAPER = "#1b1b1b", "#6b6b6b", "#ffffff"


@dataclass(frozen=True)
class SheetRow:
    """A row of a contact sheet: its name, a note below that, and encoded images with their captions."""

    name: str
    note: str
    images: list[tuple[bytes, str]]


def contact_sheet(images: pd.DataFrame, cells: pd.DataFrame) -> Image.Image:
    """A row per cell: its name, how many real images it has, and its synthetic images with their prompts.

    images: columns label_name, group, prompt and image (encoded bytes). cells: these rows of the manifest `imbalance`.
    """
    cells, images = with_group(cells).sort_values(["label", "group"]), with_group(images)
    of_cell = dict(list(images.groupby(["label_name", "group"])))
    rows = []
    for cell, count in zip(cells.itertuples(), cells["count"].tolist(), strict=True):
        own = of_cell[cell.label_name, cell.group]
        pictures = list(zip(own["image"], own["prompt"], strict=True))
        rows.append(
            SheetRow(cell_name(cell.label_name, cell.group), f"{count} real image{'s' * (count != 1)}", pictures)
        )
    return draw_sheet(rows)


def cell_name(label_name: str, group: str) -> str:
    """The name of a class, or of a class in a group."""
    return f"{label_name} | {group}" if group else label_name


def draw_sheet(rows: list[SheetRow]) -> Image.Image:
    """Draw `rows`, each with up to IMAGES_PER_CLASS images.

    Many rows stand in several columns, and smaller, so that the sheet stays about twice as high as wide.
    """
    side = 128 if len(rows) <= 60 else 96
    block_width = _NAME_WIDTH + IMAGES_PER_CLASS * (side + _GAP) + 2 * _GAP
    block_height = side + _CAPTION_LINES * _LINE + 2 * _GAP
    columns = max(1, round(math.sqrt(len(rows) * block_height / block_width / 2)))
    per_column = math.ceil(len(rows) / columns)
    sheet = Image.new("RGB", (columns * block_width + _GAP, per_column * block_height + _GAP), _PAPER)
    for i, row in enumerate(rows):
        left = i // per_column * block_width + _GAP
        _draw_row(sheet, left, i % per_column * block_height + _GAP, side, row)
    return sheet


def _draw_row(sheet: Image.Image, left: int, top: int, side: int, row: SheetRow) -> None:
    draw = ImageDraw.Draw(sheet)
    head = textwrap.wrap(row.name, 24, max_lines=3, placeholder=" ...") or [row.name]
    draw.multiline_text((left, top), "\n".join(head), _INK, _font(14, "-Bold"), spacing=4)
    draw.text((left, top + 18 * len(head) + 4), row.note, _FAINT, _font(11))
    font = _font(10)
    letters = max(8, int(side / font.getlength("prompt text") * len("prompt text")))
    for place, (data, text) in enumerate(row.images[:IMAGES_PER_CLASS]):
        x = left + _NAME_WIDTH + place * (side + _GAP)
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        if max(picture.size) > side:
            picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        else:  # a whole number of times, and not smoothed: what the network will see
            times = side // max(picture.size)
            picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
        sheet.paste(picture, (x, top))
        caption = textwrap.wrap(text, letters, max_lines=_CAPTION_LINES, placeholder=" ...")
        draw.multiline_text((x, top + picture.height + 2), "\n".join(caption), _FAINT, font, spacing=2)


def _font(size: int, weight: str = ""):
    """DejaVu Sans as matplotlib brings it along: Pillow's own font has few letters beyond English ones."""
    import matplotlib

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans{weight}.ttf", size)


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
