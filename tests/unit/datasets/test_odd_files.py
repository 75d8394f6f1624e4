"""One odd file is a row with a reason, and does not end the data set: special files, broken headers, circular links."""

import io
import os
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from synaug.commands.init import write_config
from synaug.commands.predict import _decode
from synaug.config import Dataset
from synaug.datasets import index_dataset
from synaug.images.codec import decode_image, inspect_image, open_image, uses_few_bits
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.errors import UserError

SMALL = {"train/shirt": 3, "train/bag": 2, "test/shirt": 2, "test/bag": 2}
NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def index(path, tmp_path, **settings) -> pd.DataFrame:
    """The rows of the manifest, as written and read again; the path is the file name."""
    rows = index_dataset(Dataset(source="folder", path=str(path), image_size=28, **settings))
    write_manifest("real", rows, tmp_path / "real.parquet")
    real = read_manifest("real", tmp_path / "real.parquet")
    return real.assign(path=real["path"].map(os.path.basename)).set_index("path")


def test_special_files_are_not_opened(image_folder, tmp_path, monkeypatch):
    path = image_folder(SMALL)
    os.mkfifo(path / "train/bag/pipe.png")
    (path / "train/bag/zero.png").symlink_to("/dev/zero")
    listener = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(path / "train/bag")  # the whole path may be too long for a socket
    listener.bind("socket.png")
    rows = index(path, tmp_path, follow_links=True)
    listener.close()
    for name in ("pipe.png", "socket.png", "zero"):
        assert rows.loc[name, "reason"] == "is not a regular file"
    assert rows["usable"].sum() == 9


def test_a_file_too_large_for_an_image_is_not_read_into_memory(image_folder, tmp_path):
    path = image_folder(SMALL)
    with (path / "train/bag/video.mp4").open("wb") as file:
        file.truncate(1 << 40)
    rows = index(path, tmp_path)
    reason = "has 1,099,511,627,776 bytes, more than an image of dataset.max_megapixels needs"
    assert rows.loc["video.mp4", "reason"] == reason and rows["usable"].sum() == 9


def test_a_special_file_in_place_of_a_manifest_is_named(tmp_path):
    os.mkfifo(tmp_path / "real.parquet")
    with pytest.raises(UserError, match=r"real\.parquet: is not a regular file"):
        read_manifest("real", tmp_path / "real.parquet")
    command = [sys.executable, "-m", "synaug.cli", "show", str(tmp_path / "real.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2 and "is not a regular file" in done.stderr


@pytest.mark.parametrize("name", ["pipe", "pipe.csv", "pipe.tar"])
def test_init_names_a_special_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(name)
    with pytest.raises(UserError, match="is not a regular file"):
        write_config(Path(name))


def test_predict_does_not_open_a_special_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert _decode(tmp_path / "pipe.png", 28, "rgb") == "is not a regular file"


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with(encoded: bytes, name: bytes, data: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    return encoded[:33] + chunk(name, data) + encoded[33:]


def huge_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.fixture(params=["PNG", "WEBP", "JPEG"])
def corrupt_exif(request, encode) -> tuple[bytes, bytes]:
    """An image whose EXIF data are damaged, and the same image without them."""
    settings = {"lossless": True} if request.param == "WEBP" else {}
    plain = encode(NOISE, request.param, **settings)
    if request.param == "PNG":
        return png_with(plain, b"eXIf", b"nonsense that is no TIFF"), plain
    return encode(NOISE, request.param, exif=b"Exif\0\0nonsense that is no TIFF", **settings), plain


def test_damaged_exif_data_are_ignored_since_the_pixels_are_fine(corrupt_exif):
    damaged, plain = corrupt_exif
    assert inspect_image(damaged, 1) == (60, 40, None)
    assert np.array_equal(decode_image(damaged, 40, "rgb"), decode_image(plain, 40, "rgb"))
    assert open_image(damaged, "rgb", at_least=lambda *_: (20, 20)).mode == "RGB"


def test_a_png_is_decoded_once_at_its_own_size():
    """Its orientation may come after the pixels: who asks for its upright size before decoding it decodes it twice."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, "PNG")

    def at_least(*_):
        raise AssertionError("asked for the size")

    assert open_image(file.getvalue(), "rgb", at_least).size == (40, 30)


@pytest.mark.parametrize("color", ["grey", "rgb"])
def test_lab_images_are_used_with_their_brightness(encode, color):
    lab = encode(Image.new("LAB", (20, 20), (255, 128, 128)), "TIFF")  # white
    assert inspect_image(lab, 1, color) == (20, 20, None)
    assert decode_image(lab, 20, color).min() > 240


def test_what_training_cannot_convert_is_a_reason(encode, monkeypatch):
    def refuse(image, mode):
        raise ValueError("conversion not supported")

    monkeypatch.setattr(Image.Image, "convert", refuse)
    assert inspect_image(encode(NOISE), 1) == (60, 40, "cannot be converted to RGB (conversion not supported)")


@pytest.mark.parametrize("size", [(2**31 - 1, 1), (2**31 + 5, 1), (2**32 - 1, 2**32 - 1), (1, 2**31 - 1)])
@pytest.mark.parametrize("megapixels", [1.0, 2000.0])
def test_a_huge_width_in_a_header_is_a_reason(size, megapixels):
    width, height, reason = inspect_image(huge_png(*size), megapixels)
    assert reason and max(width or 0, height or 0) < 2**31


def test_odd_images_are_rows_and_the_others_are_used(image_folder, tmp_path, encode):
    path = image_folder(SMALL)
    odd = {
        "huge.png": huge_png(2**31 - 1, 2**31 - 1),
        "wider.png": huge_png(2**32 - 1, 1),
    }
    for name, data in odd.items():
        (path / "train/bag" / name).write_bytes(data)
    (path / "train/bag/loop.png").symlink_to("loop.png")
    rows = index(path, tmp_path)
    assert sorted(rows.index[~rows["usable"]]) == sorted([*odd, "loop.png"])
    assert rows["reason"].notna().sum() == 3 and rows["usable"].sum() == 9


def deep_image(kind: str, values: np.ndarray) -> bytes:
    """A colour image with 16 bits per sample, which Pillow reads and does not write. values: uint16, H x W.

    kind: PNG or TIFF, also with an opaque alpha channel, PPM, or "text PPM".
    """
    height, width = values.shape
    channels = [values] * 3 + [np.full_like(values, 65535)] * ("alpha" in kind)
    pixels = np.stack(channels, axis=2)
    if "PPM" in kind:
        header = f"{'P3' if 'text' in kind else 'P6'}\n# 16 bits\n{width} {height}\n65535\n".encode()
        text = " ".join(map(str, pixels.ravel())).encode()
        return header + (text if "text" in kind else pixels.astype(">u2").tobytes())
    if "TIFF" in kind:
        tags = ImageFileDirectory_v2()
        # Size, bits, no compression, RGB, and where the pixels are: in one piece behind the tags.
        tags[256], tags[257], tags[258], tags[259], tags[262] = width, height, (16,) * len(channels), 1, 2
        tags[273], tags[277], tags[278], tags[279] = 0, len(channels), height, pixels.nbytes
        return b"II*\0\x08\0\0\0" + tags.tobytes(8) + pixels.astype("<u2").tobytes()
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 6 if "alpha" in kind else 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


COLOR = ["PNG", "PNG with alpha", "TIFF", "TIFF with alpha", "PPM", "text PPM"]


@pytest.mark.parametrize("kind", ["grey PNG", "grey TIFF", "grey PPM", *COLOR])
def test_images_of_12_bits_saved_with_16_are_named(image_folder, tmp_path, encode, caplog, kind):
    path = image_folder(SMALL)
    bright = NOISE[..., 0].astype(np.uint16) * 257
    for name, pixels in (("twelve", bright >> 4), ("sixteen", bright)):
        grey = kind.startswith("grey")
        data = encode(Image.fromarray(pixels), kind.removeprefix("grey ")) if grey else deep_image(kind, pixels)
        (path / f"train/bag/{name}").write_bytes(data)
    rows = index(path, tmp_path)
    assert rows["usable"].all()
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert message.startswith("images that have 16 bits") and ": 1, such as" in message and "bag/twelve" in message


@pytest.mark.parametrize("header", [b"P6 3 2 255\n", b"P6\n# 65535\n3 2 255\n"])
def test_dark_colour_images_of_8_bits_are_not_named(header):
    assert not uses_few_bits(header + bytes([10] * 18))
