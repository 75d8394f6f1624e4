"""The sample sheet of an adapter: the same prompts and seeds before and after the training."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from PIL import Image

from synaug.config import Generation, Imbalance, Prompts
from synaug.generation.sampling import sample
from synaug.generator.adapt_data import TrainingImages
from synaug.images.codec import encode_image
from synaug.images.contact_sheet import IMAGES_PER_CLASS, SheetRow, cell_name, draw_sheet
from synaug.imbalance import measure_imbalance
from synaug.plan.preview import preview_rows

_MAX_CELLS = 20  # of more, an even selection by size


def sample_rows(
    images: TrainingImages,
    generation: Generation,
    prompts: Prompts,
    *,
    group_columns: Sequence[str],
    train_split: str,
    seed: int,
) -> pd.DataFrame:
    """Rows of the manifest `plan`: the first images of up to 20 cells, from the rarest to the most frequent."""
    imbalance = measure_imbalance(images.rows, train_split, Imbalance())
    settings = {
        "seed": seed, "image_size": generation.size, "color": "rgb", "group_columns": group_columns,
        "prompts": prompts.model_dump(), "generation": generation.model_dump(),
    }  # fmt: skip
    rows = preview_rows(imbalance, settings, None)
    by_size = images.cells.iloc[np.bincount(images.labels).argsort(kind="stable")]
    chosen = by_size.iloc[sorted({i * (len(by_size) - 1) // (_MAX_CELLS - 1) for i in range(_MAX_CELLS)})]
    return chosen[["label", "group"]].merge(rows, on=["label", "group"])


def sample_images(pipeline, rows: pd.DataFrame) -> pd.Series:
    """The encoded image of each of `rows`, by its index."""
    numbered = rows.assign(number=rows.index)
    images = {}
    for batch, pixels in sample(pipeline, numbered, IMAGES_PER_CLASS):
        images |= dict(zip(batch["number"], map(encode_image, pixels), strict=True))
    return pd.Series(images)


def sample_sheet(rows: pd.DataFrame, before: pd.Series, after: pd.Series) -> Image.Image:
    """Two rows of images for each cell: of the model, and of the model with the adapter."""
    sheet = []
    for (label_name, group), cell in rows.groupby(["label_name", "group"], sort=False):
        for note, images in (("before", before), ("after", after)):
            captioned = [(images[number], prompt) for number, prompt in cell["prompt"].items()]
            sheet.append(SheetRow(cell_name(label_name, group), note, captioned))
    return draw_sheet(sheet)
