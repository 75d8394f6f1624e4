"""The gallery: some real, synthetic and rejected images of every class, small enough for one page."""

import base64
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageOps

from synaug.images.codec import open_image
from synaug.images.store import read_encoded
from synaug.manifests import read_manifest

# Of a class; fewer if there are more classes than the page has room for.
REAL, SYNTHETIC, REJECTED = 8, 12, 4
MOST_IMAGES = 6000  # a page of these is some 10 MB, and still opens at once
MOST_CLASSES = 2000  # of more, the largest and the smallest are shown
SIDE = 64  # pixels of a thumbnail at most
LOSSLESS = 32  # up to so many pixels a side, a thumbnail shows every one of them
SCORES = {  # column of the manifest `synthetic` -> what it is called on the page, and in the search
    "classifier_confidence": "confidence",
    "text_image_score": "similarity",
    "safety_score": "unsafe",
    "contrast": "contrast",
}


def shown_classes(classes: pd.DataFrame) -> pd.DataFrame:
    """The rows of the class table that the gallery has room for: all, or the first and the last of them."""
    half = MOST_CLASSES // 2
    return classes if len(classes) <= 2 * half else pd.concat([classes.head(half), classes.tail(half)])


def numbers(classes: int) -> tuple[int, int, int]:
    """How many real, synthetic and rejected images of each of so many classes are shown."""
    share = min(1.0, MOST_IMAGES / (classes * (REAL + SYNTHETIC + REJECTED)))
    real, synthetic, rejected = (max(1, int(number * share)) for number in (REAL, SYNTHETIC, REJECTED))
    return real, synthetic, rejected


def gallery(
    classes: pd.DataFrame, balanced: pd.DataFrame, synthetic: pd.DataFrame, plan: str, size: int, color: str
) -> list[dict]:
    """One dict per row of `classes` (class table): label, label_name, shot, counts, and lists of images of each kind.

    Kinds: real, synthetic, rejected. An image has `src` (a data URI; empty if the file is no image); a synthetic one
    also image_id, prompt, seed, scores (name -> text), and, if it was rejected, rejected_by and reason. Real and
    synthetic ones are images that are trained on, chosen by id, which is a hash; rejected ones differ in the reason as
    far as they can. balanced, synthetic: manifests. plan: path of that manifest, of which only the chosen rows are
    read. size: of the data set, pixels.
    """
    real, made, rejected = numbers(len(classes))
    here = balanced[balanced["label"].isin(classes["label"])].drop_duplicates(["source", "image_id", "label"])
    kept = here[here["source"] == "synthetic"]
    bad = synthetic[~synthetic["accepted"] & synthetic["label"].isin(classes["label"])].sort_values("image_id")
    turn = bad.groupby(["label", "rejected_by"]).cumcount()
    bad = bad.assign(turn=turn).sort_values(["turn", "rejected_by", "image_id"]).groupby("label").head(rejected)
    chosen = {
        "real": _first(here[here["source"] == "real"], real),
        "synthetic": _about(_first(kept, made), synthetic, plan),
        "rejected": _about(bad[["image_id", "label"]], synthetic, plan),
    }
    for rows in chosen.values():
        rows["src"] = thumbnails(rows, min(size, SIDE), color)
    by_class = {kind: dict(list(rows.groupby("label"))) for kind, rows in chosen.items()}
    return [
        {"label": row.label, "label_name": row.label_name, "shot": row.shot}
        | {"counts": {"real": row.real, "synthetic": row.synthetic, "rejected": row.rejected}}
        | {kind: _images(by_class[kind].get(row.label)) for kind in by_class}
        for row in classes.itertuples()
    ]


def score_names(synthetic: pd.DataFrame) -> list[str]:
    """What the scores are called that any image has. synthetic: manifest."""
    return [name for column, name in SCORES.items() if synthetic[column].notna().any()]


def thumbnails(rows: pd.DataFrame, size: int, color: str) -> list[str]:
    """Data URIs (WebP, size x size) of the images that `rows` point at; empty text where there is no image."""
    found = [""] * len(rows)
    there = rows["path"].notna().to_numpy()
    positions = np.flatnonzero(there)
    for at, images in read_encoded(rows[there]):
        for position, data in zip(at, images, strict=True):
            try:
                image = open_image(data, color, at_least=(size, size))
            except Exception:  # a rejected file may be no image at all; those that are trained on were decoded before
                continue
            found[positions[position]] = _data_uri(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC))
    return found


def pixels_of(images: list[dict], size: int) -> np.ndarray:
    """Thumbnails of the gallery as uint8, N x size x size x 3. For the overview picture."""
    decoded = [Image.open(io.BytesIO(base64.b64decode(one["src"].partition(",")[2]))) for one in images if one["src"]]
    pixels = [np.asarray(one.convert("RGB").resize((size, size))) for one in decoded]
    return np.stack(pixels) if pixels else np.empty((0, size, size, 3), np.uint8)


def _first(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    return rows.sort_values("image_id").groupby("label").head(count).reset_index(drop=True)


def _about(chosen: pd.DataFrame, synthetic: pd.DataFrame, plan: str) -> pd.DataFrame:
    """chosen: image_id and label; with what the manifests `synthetic` and `plan` know of these images."""
    ids = chosen["image_id"].unique().tolist()
    of_these = pc.field("image_id").isin(pa.array(ids, pa.string()))
    columns = ["image_id", "prompt", "seed"]
    planned = read_manifest("plan", plan, columns, filters=of_these).drop_duplicates("image_id")
    known = synthetic[synthetic["image_id"].isin(ids)].drop(columns=["label", "label_name"], errors="ignore")
    rows = chosen[["image_id", "label"]].merge(known.drop_duplicates("image_id"), on="image_id", how="left")
    # Seeds as text: where one is missing, pandas would make floats of all, which cannot hold them.
    return rows.merge(planned.astype({"seed": str}), on="image_id", how="left")


def _images(rows: pd.DataFrame | None) -> list[dict]:
    """Rows as dicts with what the template shows."""
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
