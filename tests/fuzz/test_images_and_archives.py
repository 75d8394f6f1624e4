"""Damaged images, tables and tars: each is a row with a reason or one line of an error, and what is accepted decodes.

Seeded. SYNAUG_FUZZ_IMAGES sets the number of damaged images of every format (default: 40).
"""

import io
import lzma
import os
import struct
import tarfile
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from synaug.config import Dataset
from synaug.datasets import index_dataset, write_table
from synaug.images.codec import decode_image, inspect_image, open_image, uses_few_bits
from synaug.runtime.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about damaged EXIF data
COUNT = int(os.environ.get("SYNAUG_FUZZ_IMAGES", "40"))
NOISE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def exif() -> bytes:
    values = Image.Exif()
    values[0x0112], values[0x010F] = 6, "a maker"
    return values.tobytes()


SEEDS = {
    "png": ("PNG", NOISE, {"exif": exif()}),
    "png-16": ("PNG", NOISE[..., 0].astype(np.uint16) * 257, {}),
    "png-palette": ("PNG", Image.fromarray(NOISE).quantize(16), {"transparency": 3}),
    "jpeg": ("JPEG", NOISE, {"exif": exif()}),
    "jpeg-cmyk": ("JPEG", Image.fromarray(NOISE).convert("CMYK"), {}),
    "webp": ("WEBP", NOISE, {"exif": exif(), "lossless": True}),
    "gif": ("GIF", NOISE, {"save_all": True, "append_images": [Image.fromarray(NOISE[::-1].copy())]}),
    "tiff": ("TIFF", NOISE, {}),
    "tiff-lzw": ("TIFF", NOISE, {"compression": "tiff_lzw"}),
    "tiff-lab": ("TIFF", Image.new("LAB", (20, 20), (90, 9, 9)), {}),
    "bmp": ("BMP", NOISE, {}),
    "ppm": ("PPM", NOISE, {}),
}


def encoded(name: str) -> bytes:
    kind, image, settings = SEEDS[name]
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **settings)
    return buffer.getvalue()


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """`data` with a few bytes changed (more often in the header), removed, repeated, or cut off."""
    content = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(len(content) if rng.random() < 0.5 else min(len(content), 120)))
        match rng.integers(5):
            case 0:
                content[place] ^= 1 << int(rng.integers(8))
            case 1:
                content[place] = int(rng.choice([0, 1, 127, 128, 255]))
            case 2:
                del content[place : place + int(rng.integers(1, 9))]
            case 3:
                content[place:place] = content[place : place + int(rng.integers(1, 33))]
            case 4:
                content[place : place + 4] = rng.bytes(4)
        if len(content) < 2:
            break
    return bytes(content[: int(rng.integers(1, len(content) + 1))] if rng.random() < 0.15 else content)


def with_checksums(png: bytes) -> bytes:
    """A PNG with the checksums of its chunks corrected: a reader stops at the first wrong one."""
    content, place = bytearray(png), 8
    while place + 12 <= len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4])
        if end + 4 > len(content):
            break
        content[end : end + 4] = struct.pack(">I", zlib.crc32(content[place + 4 : end]))
        place = end + 4
    return bytes(content)


@pytest.mark.parametrize("name", SEEDS)
def test_what_is_accepted_decodes_and_everything_else_has_a_reason(name):
    rng = np.random.default_rng([17, *name.encode()])
    assert inspect_image(encoded(name), 1.0)[2] is None
    for _ in range(COUNT):
        data = damaged(encoded(name), rng)
        data = with_checksums(data) if name.startswith("png") else data
        for color in ("grey", "rgb"):
            width, height, reason = inspect_image(data, 1.0, color)
            assert reason is None or ("\n" not in reason and len(reason) < 300)
            assert all(side is None or 0 <= side < 2**31 for side in (width, height))
            if reason is None:
                uses_few_bits(data)
                assert decode_image(data, 16, color).shape == (16, 16, 1 if color == "grey" else 3)
                open_image(data, color, at_least=lambda *_: (8, 8)).load()


def write_tar(rng: np.random.Generator, compressed: bool) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in range(8):
            for part, data in (("png", encoded("png")), ("cls", b"ab"[number % 2 :][:1])):
                info = tarfile.TarInfo(f"{'long/' * 25 if number == 3 else ''}{number}.{part}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return lzma.compress(buffer.getvalue(), preset=0) if compressed else buffer.getvalue()


def outcome(call) -> str:
    """ok, or the one line of a UserError."""
    try:
        call()
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return str(error)
    return "ok"


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_tars_end_in_one_line(tmp_path, compressed):
    rng = np.random.default_rng([18, compressed])
    path = tmp_path / "train.tar"
    dataset = Dataset(source="webdataset", path=str(path), image_size=28, make_splits={"test": 0.5})
    whole = write_tar(rng, compressed)
    for _ in range(COUNT):
        path.write_bytes(damaged(whole, rng))
        outcome(lambda: write_table(dataset, tmp_path / "images.parquet"))
    path.write_bytes(whole)
    assert outcome(lambda: write_table(dataset, tmp_path / "images.parquet")) == "ok"


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_damaged_tables_end_in_one_line(tmp_path, kind):
    rng = np.random.default_rng([19, *kind.encode()])
    (tmp_path / "a.png").write_bytes(encoded("png"))
    frame = pd.DataFrame({"image": ["a.png"] * 8, "label": ["ä", "b"] * 4, "split": ["train"] * 4 + ["test"] * 4})
    path = tmp_path / f"t.{kind}"
    if kind == "parquet":
        images = pa.array([{"bytes": encoded("png"), "path": None}] * 7 + [{"bytes": None, "path": "a.png"}])
        pq.write_table(pa.table({**frame.to_dict("list"), "image": images}), path, compression="NONE")
    elif kind == "csv":
        frame.to_csv(path, index=False)
    else:
        path.write_text(frame.to_json(orient="records", lines=True, force_ascii=False))
    dataset = Dataset(source="table", path=str(path), image_size=28)
    whole = path.read_bytes()
    assert outcome(lambda: index_dataset(dataset)) == "ok"
    for _ in range(COUNT):
        path.write_bytes(damaged(whole, rng))
        outcome(lambda: index_dataset(dataset))
