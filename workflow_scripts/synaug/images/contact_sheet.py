"""Contact sheets: one row of images per class, or per class in a group."""

import math
import os
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from synaug.images.codec import open_image
from synaug.images.store import stream_images
from synaug.images.tables import holds_images
from synaug.manifests import with_fill, with_group
from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path
from synaug.runtime.paths import results_root

IMAGES_PER_CLASS = 4
# Pixels.
_GAP = 8
_NAME_WIDTH = 200
_LINE = 14
_CAPTION_LINES = 4
_MAX_ROWS = 120  # a larger sheet could not be opened
_ID_LETTERS = 12  # letters of an image_id in a caption, which are enough for `synaug regenerate`
_ROW = ["label_name", "group", "kind"]  # what has a row of the sheet; kind: source or split
_INK, _FAINT, _PAPER = "#1b1b1b", "#6b6b6b", "#ffffff"


@dataclass(frozen=True)
class SheetRow:
    """A row of a contact sheet: its name, a note below the name, and encoded images with their captions."""

    name: str
    note: str
    images: list[tuple[bytes, str]]


def contact_sheet(images: pd.DataFrame, cells: pd.DataFrame) -> Image.Image:
    """A row per cell and fill: its name, its number of real images, and its synthetic images with their prompts.

    images: columns label_name, group, fill, prompt and image (encoded bytes). cells: rows `cell` of the manifest
    `imbalance`.
    """
    cells, images = with_group(cells).sort_values(["label", "group"]), with_fill(with_group(images))
    of_cell = dict(list(images.groupby(["label_name", "group", "fill"])))
    rows = []
    for cell, count in zip(cells.itertuples(), cells["count"].tolist(), strict=True):
        for fill in images["fill"].unique():
            if (key := (cell.label_name, cell.group, fill)) not in of_cell:  # image-to-image without a real image
                continue
            shown = of_cell[key]
            note = f"{count} real image{'s' * (count != 1)}" + (f", fill {fill}" if fill else "")
            captioned = list(zip(shown["image"], shown["prompt"], strict=True))
            rows.append(SheetRow(cell_name(cell.label_name, cell.group, cell.label), note, captioned))
    return draw_sheet(rows)


def cell_name(label_name: str, group: str, label: int | None = None) -> str:
    """The name of a class, or of a class in a group; after its number `label` if a sheet cannot show all letters."""
    name = f"{label_name} | {group}" if group else label_name
    if label is None or {ord(letter) for letter in name if not letter.isspace()} <= _drawable():
        return name
    return f"{label}: {name}"


def draw_sheet(rows: list[SheetRow]) -> Image.Image:
    """Draw `rows` with all their images.

    Many rows are drawn smaller and in several columns, so that the sheet is about twice as high as wide.
    """
    side = 128 if len(rows) <= 60 else 96
    block_width = _NAME_WIDTH + max(len(row.images) for row in rows) * (side + _GAP) + 2 * _GAP
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
    name = textwrap.wrap(row.name, 24, max_lines=3, placeholder=" ...") or [row.name]
    draw.multiline_text((left, top), "\n".join(name), _INK, _font(14, "-Bold"), spacing=4)
    draw.text((left, top + 18 * len(name) + 4), row.note, _FAINT, _font(11))
    font = _font(10)
    letters = max(8, int(side / font.getlength("prompt text") * len("prompt text")))  # that fit below an image
    for number, (data, text) in enumerate(row.images):
        x = left + _NAME_WIDTH + number * (side + _GAP)
        picture = open_image(data, "rgb")
        if max(picture.size) > side:
            picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        else:  # enlarged by an integer factor and not smoothed: these are the pixels that the network sees
            factor = side // max(picture.size)
            picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
        sheet.paste(picture, (x, top))
        caption = textwrap.wrap(text, letters, max_lines=_CAPTION_LINES, placeholder=" ...")
        draw.multiline_text((x, top + picture.height + 2), "\n".join(caption), _FAINT, font, spacing=2)


def _font_file(weight: str) -> str:
    """DejaVu Sans, which is part of matplotlib: the font of Pillow has hardly any letters that are not English."""
    import matplotlib

    return f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans{weight}.ttf"


def _font(size: int, weight: str = ""):
    return ImageFont.truetype(_font_file(weight), size)


@cache
def _drawable() -> set[int]:
    """The code points of the letters in the font of the names. It has no Chinese, Japanese and Korean ones."""
    from matplotlib.ft2font import FT2Font

    return set(FT2Font(_font_file("-Bold")).get_charmap())


def draw_sheet_of(manifest: Path, out: Path, images_per_row: int = IMAGES_PER_CLASS) -> tuple[int, int]:
    """Draw some images of every class, group and source (or split) in `manifest` to the PNG `out`, a row for each.

    images_per_row: the most that are drawn of each. Returns the number of rows drawn and the number of possible rows:
    of too many rows, an even selection is drawn. Raises UserError if the manifest has no images.
    """
    schema = pq.read_schema(manifest)
    names = schema.names
    embedded = "image" in names and holds_images(schema.field("image").type)
    if "label_name" not in names or not (embedded or {"path", "row", "column"} <= set(names)):
        raise UserError(
            f"{manifest}: has no images to draw; name a manifest real, balanced, synthetic or scores, or a shard"
        )
    wanted = ["label", *_ROW[:2], "source", "split", "image_id", "prompt", "path", "row", "column", "usable"]
    rows = pq.read_table(manifest, columns=[name for name in wanted if name in names]).to_pandas()
    rows = with_group(rows.astype(dict.fromkeys(rows.select_dtypes("category"), "str")))
    if embedded:
        rows = rows.assign(path=str(manifest.absolute()), row=range(len(rows)), column="image")
    if "image_id" not in rows:  # not a manifest
        rows = rows.assign(image_id=[f"{number:012d}" for number in range(len(rows))])
    rows = rows[rows["path"].notna() & rows.get("usable", True)]
    kind_column = next((name for name in ("source", "split") if name in rows), None)
    rows = rows.assign(kind=rows[kind_column] if kind_column else "")
    # Other tables may have numbers, nulls or lists in these columns.
    rows = rows.assign(**{name: _texts(rows[name]) for name in _ROW})
    counts = rows.groupby(_ROW, sort=True).size()
    if counts.empty:
        raise UserError(f"{manifest}: has no row with an image", advice="name another manifest")
    drawn = counts.iloc[sorted({i * (len(counts) - 1) // (_MAX_ROWS - 1) for i in range(_MAX_ROWS)})]
    # The first ones by id, which is a hash: a random choice that is the same each time.
    chosen = rows.sort_values("image_id").groupby(_ROW).head(images_per_row)
    chosen = chosen[pd.MultiIndex.from_frame(chosen[_ROW]).isin(drawn.index)].reset_index(drop=True)
    # The command may be called in any folder. The path of an embedded image is absolute.
    root = Path() if embedded else results_root(os.path.abspath(manifest))
    images = {position: image for position, image, _ in stream_images(chosen, root)}
    captions = _texts(chosen["prompt"]) if "prompt" in chosen else _texts(chosen["image_id"]).str[:_ID_LETTERS]
    chosen = chosen.assign(image=pd.Series(images), caption=captions)
    of_row = dict(list(chosen.groupby(_ROW)))
    labels = dict(zip(chosen["label_name"], chosen["label"], strict=True)) if "label" in chosen else {}
    sheet = []
    for (label_name, group, kind), count in drawn.items():
        shown = of_row[label_name, group, kind]
        note = f"{count:,} {kind} image{'s' * (count != 1)}".replace("  ", " ")
        captioned = list(zip(shown["image"], shown["caption"], strict=True))
        sheet.append(SheetRow(cell_name(label_name, group, labels.get(label_name)), note, captioned))
    with atomic_path(out) as temporary:
        draw_sheet(sheet).save(temporary, "PNG")
    return len(drawn), len(counts)


def _texts(column: pd.Series) -> pd.Series:
    """The values as text; of a missing one, an empty text."""
    return column.astype(object).where(column.notna(), "").astype(str)
