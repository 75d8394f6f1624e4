"""The gallery: some real, synthetic and rejected images of every class, small enough for one page."""

import base64
import io
from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageOps

from synaug.images.codec import open_image
from synaug.images.store import read_encoded
from synaug.manifests import read_manifest
from synaug.runtime.paths import local_path, results_root
from synaug.screening.filters import Parts

# Images per class; fewer if the page has no room for so many.
REAL, SYNTHETIC, REJECTED = 8, 12, 4
MOST_IMAGES = 6000  # about 10 MB, which still opens without delay
MOST_CLASSES = 2000  # of more classes, the largest and the smallest are shown
SIDE = 64  # largest side of a thumbnail, pixels
LOSSLESS = 32  # up to this side, a thumbnail is stored without loss
SCORES = {  # column of the manifest `synthetic` -> its name on the page and in the search
    "classifier_confidence": "confidence",
    "text_image_score": "similarity",
    "safety_score": "unsafe",
    "contrast": "contrast",
}
BALANCED_COLUMNS = ["image_id", "label", "source", "path", "row", "column"]
DETAIL_COLUMNS = ["image_id", "group", "path", "row", "column", *SCORES, "accepted", "rejected_by", "reason"]


def shown_classes(classes: pd.DataFrame) -> pd.DataFrame:
    """The rows of the class table that fit into the gallery: all, or the first and the last of them."""
    half = MOST_CLASSES // 2
    return classes if len(classes) <= 2 * half else pd.concat([classes.head(half), classes.tail(half)])


def images_per_class(classes: int) -> tuple[int, int, int]:
    """How many real, synthetic and rejected images are shown per class. classes: number of shown classes."""
    scale = min(1.0, MOST_IMAGES / (classes * (REAL + SYNTHETIC + REJECTED)))
    real, synthetic, rejected = (max(1, int(number * scale)) for number in (REAL, SYNTHETIC, REJECTED))
    return real, synthetic, rejected


def gallery(classes: pd.DataFrame, balanced: Parts, synthetic: Parts, plan: str, size: int, color: str) -> list[dict]:
    """One dict per row of `classes` (class table): label, label_name, shot, counts, and a list of images per kind.

    Kinds: real, synthetic, rejected. An image has `src` (a data URI; empty if the file is not an image). A synthetic
    image also has image_id, prompt, seed, group and scores (name -> text), and, if it is rejected, rejected_by and
    reason. Real and synthetic images are training images, chosen by id, which is a hash; rejected images are chosen so
    that their reasons differ as far as possible. balanced, synthetic: manifests, read in parts. plan: path of that
    manifest, of which only the rows of chosen images are read. size: side of the images of the data set, pixels.
    """
    real_count, synthetic_count, rejected_count = images_per_class(len(classes))
    training = _first_by_id(
        (rows[rows["label"].isin(classes["label"])] for rows in balanced(BALANCED_COLUMNS)),
        ["source", "label"],
        max(real_count, synthetic_count),
    )
    real, kept = (
        training[training["source"] == source].groupby("label").head(count).reset_index(drop=True)
        for source, count in (("real", real_count), ("synthetic", synthetic_count))
    )
    rejected = _first_by_id(
        (
            rows[~rows["accepted"] & rows["label"].isin(classes["label"])]
            for rows in synthetic(["image_id", "label", "accepted", "rejected_by"])
        ),
        ["label", "rejected_by"],
        rejected_count,
    )
    # In turn one image of each reason, so that the first images of a class have different reasons.
    turn = rejected.groupby(["label", "rejected_by"]).cumcount()
    rejected = rejected.assign(turn=turn).sort_values(["turn", "rejected_by", "image_id"])
    rejected = rejected.groupby("label").head(rejected_count)
    details = _details({*kept["image_id"], *rejected["image_id"]}, synthetic, plan)
    chosen = {
        "real": real,
        "synthetic": kept[["image_id", "label"]].merge(details, on="image_id", how="left"),
        "rejected": rejected[["image_id", "label"]].merge(details, on="image_id", how="left"),
    }
    root = results_root(plan)
    for rows in chosen.values():
        local_paths = {logical: local_path(logical, root) for logical in rows["path"].dropna().unique()}
        rows["src"] = thumbnails(rows.assign(path=rows["path"].map(local_paths)), min(size, SIDE), color)
    by_class = {kind: dict(list(rows.groupby("label"))) for kind, rows in chosen.items()}
    return [
        {"label": row.label, "label_name": row.label_name, "shot": row.shot}
        | {"counts": {"real": row.real, "synthetic": row.synthetic, "rejected": row.rejected}}
        | {kind: _image_dicts(by_class[kind].get(row.label)) for kind in by_class}
        for row in classes.itertuples()
    ]


def thumbnails(rows: pd.DataFrame, size: int, color: str) -> list[str]:
    """Data URIs (WebP, size x size) of the images of `rows`; empty text for a file that is not an image."""
    uris = [""] * len(rows)
    has_path = rows["path"].notna().to_numpy()
    positions = np.flatnonzero(has_path)
    # Only a rejected image can be damaged, since training images were decoded before.
    for batch, images in read_encoded(rows[has_path], damaged={}):
        for position, data in zip(positions[batch], images, strict=True):
            try:
                image = open_image(data, color, at_least=lambda *_: (size, size))
            except Exception:
                continue
            uris[position] = _data_uri(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC))
    return uris


def thumbnail_pixels(images: list[dict], size: int) -> np.ndarray:
    """Thumbnails of the gallery as uint8, N x size x size x 3, for the overview figure."""
    encoded = [base64.b64decode(image["src"].partition(",")[2]) for image in images if image["src"]]
    pixels = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((size, size))) for data in encoded]
    return np.stack(pixels) if pixels else np.empty((0, size, size, 3), np.uint8)


def _first_by_id(parts: Iterable[pd.DataFrame], by: list[str], count: int) -> pd.DataFrame:
    """Of each group of `by` the `count` different images with the smallest ids, in the order of the ids."""
    first: list[pd.DataFrame] = []
    for rows in parts:
        images = pd.concat([*first, rows]).drop_duplicates([*by, "image_id"])
        first = [images.sort_values("image_id").groupby(by).head(count)]
    return first[0]


def _details(ids: set[str], synthetic: Parts, plan: str) -> pd.DataFrame:
    """What the page says of the images with `ids`: columns of the manifest `synthetic`, prompt and seed of the plan."""
    is_chosen = pc.field("image_id").isin(pa.array(sorted(ids), pa.string()))
    planned = read_manifest("plan", plan, ["image_id", "prompt", "seed"], filters=is_chosen)
    # Seeds as text: a missing seed would turn all seeds into floats, which cannot represent them exactly.
    planned = planned.drop_duplicates("image_id").astype({"seed": str})
    rows = pd.concat([rows[rows["image_id"].isin(ids)] for rows in synthetic(DETAIL_COLUMNS)])
    return rows.drop_duplicates("image_id").merge(planned, on="image_id", how="left")


def _image_dicts(rows: pd.DataFrame | None) -> list[dict]:
    """The images of a class as dicts; None: the class has no image of this kind."""
    if rows is None:
        return []
    if "seed" not in rows:
        return [{"src": src} for src in rows["src"]]
    return [
        {
            "src": row["src"],
            "image_id": row["image_id"],
            "prompt": "" if pd.isna(row["prompt"]) else row["prompt"],
            "seed": "" if pd.isna(row["seed"]) else row["seed"],
            "group": row.get("group", ""),
            "scores": {SCORES[name]: f"{row[name]:.3g}" for name in SCORES if pd.notna(row[name])},
            "rejected_by": None if row["accepted"] else row["rejected_by"],
            "reason": None if row["accepted"] else row["reason"],
        }
        for row in rows.to_dict("records")
    ]


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    if image.width <= LOSSLESS:
        image.save(buffer, "WEBP", lossless=True, quality=100, method=4)
    else:
        image.save(buffer, "WEBP", quality=60, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
