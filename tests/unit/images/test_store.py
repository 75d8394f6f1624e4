"""Reading the images that a manifest points to."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synaug.images import store, tables
from synaug.images.codec import decode_image
from synaug.images.store import batches_in_order, iterate_pixels, load_pixels, read_encoded, stream_images
from synaug.runtime.errors import UserError


@pytest.fixture
def mixed_manifest(tmp_path, pngs) -> pd.DataFrame:
    """Twelve images, in turn in two tables and in files, with the number of the image in column `n`."""
    rows = []
    tables = {"a": pngs[0:12:3], "b": pngs[1:12:3]}
    for name, images in tables.items():
        image = pa.array([{"bytes": data, "path": None} for data in images])
        pq.write_table(pa.table({"image": image}), tmp_path / f"{name}.parquet")
    for n in range(12):
        file = [tmp_path / "a.parquet", tmp_path / "b.parquet", tmp_path / f"{n}.png"][n % 3]
        if n % 3 == 2:
            file.write_bytes(pngs[n])
        rows.append({"n": n, "path": str(file), "row": None if n % 3 == 2 else n // 3})
    return pd.DataFrame(rows).astype({"row": "Int64"})


@pytest.mark.parametrize("seed", range(3))
def test_pixels_come_in_the_order_of_the_manifest(mixed_manifest, pngs, seed):
    shuffled = mixed_manifest.sample(frac=1, random_state=seed)
    pixels = load_pixels(shuffled, 28, "grey")
    for n, loaded in zip(shuffled["n"], pixels, strict=True):
        assert np.array_equal(loaded, decode_image(pngs[n], 28, "grey"))


def test_an_image_may_be_listed_twice(mixed_manifest):
    twice = pd.concat([mixed_manifest, mixed_manifest])
    pixels = load_pixels(twice, 28, "grey")
    assert np.array_equal(pixels[:12], pixels[12:])


def test_a_manifest_may_have_categorical_columns(mixed_manifest, pngs):
    """As pyarrow reads it; of a data set of files no row names a column."""
    files = mixed_manifest[mixed_manifest["row"].isna()].reset_index(drop=True)
    files = files.assign(column=pd.Categorical([None] * len(files), categories=[]))
    pixels = load_pixels(files, 28, "grey")
    assert np.array_equal(pixels, np.stack([decode_image(pngs[n], 28, "grey") for n in files["n"]]))


def test_an_empty_manifest_has_no_pixels(mixed_manifest):
    assert load_pixels(mixed_manifest[:0], 28, "rgb").shape == (0, 28, 28, 3)


@pytest.mark.parametrize("lost", ["table", "row", "file", "pixels"])
def test_a_missing_image_is_named(mixed_manifest, lost):
    rows = mixed_manifest
    if lost == "row":
        rows.loc[0, "row"] = 99
    else:
        position = {"table": 0, "file": 2, "pixels": 2}[lost]
        path = rows.loc[position, "path"]
        with open(path, "wb") as file:
            file.write(b"nothing")
        if lost != "pixels":
            Path(path).unlink()
    named = rows.loc[2 if lost in ("file", "pixels") else 0, "path"]
    with pytest.raises(UserError) as caught:
        load_pixels(rows, 28, "grey")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_streaming_gives_the_same_images(mixed_manifest, pngs):
    rows = mixed_manifest.assign(column=None).sample(frac=1, random_state=0)
    streamed = {position: data for position, data, _ in stream_images(rows, Path())}
    assert [streamed[position] for position in range(12)] == [pngs[n] for n in rows["n"]]


def test_a_table_of_gigabytes_gives_the_same_images(mixed_manifest, pngs, monkeypatch):
    """Such a table is read in pieces, in its own order."""
    monkeypatch.setattr(store, "_IN_MEMORY", 0)
    monkeypatch.setattr(tables, "_BATCH_BYTES", 1)
    rows = pd.concat([mixed_manifest, mixed_manifest]).sample(frac=1, random_state=0)
    images = {}
    for positions, encoded in read_encoded(rows):
        assert len(positions) <= 2 or rows["row"].iloc[positions].isna().all()
        images.update(zip(positions.tolist(), encoded, strict=True))
    assert [images[position] for position in range(24)] == [pngs[n] for n in rows["n"]]
    pixels = np.stack([decode_image(pngs[n], 28, "grey") for n in rows["n"]])
    assert np.array_equal(load_pixels(rows, 28, "grey"), pixels)


@pytest.mark.parametrize("count", [3, 12])
def test_batches_are_those_that_batches_in_order_names(mixed_manifest, monkeypatch, count):
    """Files are read a few at a time, because photographs are large, and still come in the same batches."""
    monkeypatch.setattr(store, "_FILES", 2)
    monkeypatch.setattr(store, "_BATCH", count)
    manifest = mixed_manifest.assign(column=None)
    batches = [positions.tolist() for positions, _ in iterate_pixels(manifest, 28, "grey")]
    assert batches == [positions.tolist() for positions in batches_in_order(manifest)]
    files = [positions for positions, _ in read_encoded(manifest) if manifest["row"].iloc[positions].isna().all()]
    assert max(map(len, files)) == 2
