"""Encoded images and pixels: decoding, encoding, and reading those that a manifest points at."""

import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from synaug.errors import UserError

# Formats that Pillow decodes by itself: no external program is ever started for an untrusted file.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MODES = {"grey": "L", "rgb": "RGB"}
CHANNELS = {"grey": 1, "rgb": 3}

# Images that networks see at more than so many pixels a side are not all kept decoded: 10,000 of 64 pixels take 120 MB.
LARGE = 64

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit only warns; `inspect_image` has the one that counts


def inspect_image(data: bytes, max_megapixels: float) -> tuple[int | None, int | None, str | None]:
    """Width, height (pixels) and, if the encoded image cannot be used, the reason in a few words.

    The whole image is decoded, since a file that was cut short has a valid header.
    """
    if not data:
        return None, None, "is empty (0 bytes)"
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        return None, None, "is not an image of a known format"
    except Exception as error:
        return None, None, f"has a broken header ({error})"
    width, height = image.size
    if width * height > max_megapixels * 1e6:
        return width, height, f"is larger than {max_megapixels:g} megapixels"
    if image.mode in ("I", "F"):
        # Nothing says which of their values is white.
        return width, height, "has 32-bit pixels; save it with 8 or 16 bits"
    try:
        image.load()
    except Exception as error:
        return width, height, f"is damaged ({error})"
    return width, height, None


def open_image(data: bytes, color: str, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode, upright, in the mode of `color`: the first picture of an animation, on white what is transparent.

    at_least: width and height (pixels) that are enough; a JPEG that is twice as large or more is decoded smaller.
    """
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if at_least and image.format == "JPEG":
        lies = image.getexif().get(ExifTags.Base.Orientation, 1) > 4
        image.draft(None, at_least[::-1] if lies else at_least)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        # Pillow would clip at 255 instead of scaling.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        # Below it may lie any colour, most often black, which no viewer shows.
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert(MODES[color])


def decode_image(data: bytes, size: int, color: str) -> np.ndarray:
    """Decode to uint8, size x size x channels.

    The shorter side is scaled to `size` (bicubic, antialiased) and the middle is cut out, so nothing is distorted.
    """
    image = open_image(data, color)
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(size, size, CHANNELS[color])


def encode_image(pixels: np.ndarray) -> bytes:
    """PNG of a uint8 array, H x W x 1 or H x W x 3. The same pixels give the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def read_encoded(manifest: pd.DataFrame) -> Iterator[tuple[np.ndarray, list[bytes | None]]]:
    """Yield (positions in `manifest`, encoded images), file by file, so that no file is opened twice.

    `manifest` has the columns `path`, `row` (null: the file itself is the image) and `column` (default: image).
    Raises UserError if a file or a row is gone.
    """
    manifest = manifest.reset_index(drop=True)
    columns = manifest["column"].astype("object").fillna("image") if "column" in manifest else "image"
    manifest = manifest.assign(column=columns)
    in_table = manifest["row"].notna()
    for (path, name), group in manifest[in_table].groupby(["path", "column"], sort=True):
        wanted = group["row"].to_numpy(np.int64)
        try:
            column = pq.read_table(path, columns=[name], partitioning=None).column(name)
        except (FileNotFoundError, OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{path}: cannot be read ({error}); run the workflow again to re-make it") from None
        if wanted.max(initial=-1) >= len(column):
            raise UserError(f"{path}: has {len(column)} rows, row {wanted.max()} is wanted; delete it and run again")
        yield group.index.to_numpy(), encoded_images(column.take(pa.array(wanted)))
    files = manifest[~in_table]
    for start in range(0, len(files), 1024):
        group = files.iloc[start : start + 1024]
        with ThreadPoolExecutor() as pool:
            yield group.index.to_numpy(), list(pool.map(_read_file, group["path"]))


def encoded_images(column: pa.ChunkedArray) -> list[bytes | None]:
    """The encoded images of a column of binary, or of structs with a field `bytes` (as Hugging Face writes them)."""
    values = column.combine_chunks()
    return (values.field("bytes") if pa.types.is_struct(values.type) else values).to_pylist()


def iterate_pixels(manifest: pd.DataFrame, size: int, color: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (positions in `manifest`, their images: uint8, n x size x size x channels), up to 1,024 at a time.

    Raises UserError if an image is gone or cannot be decoded.
    """

    def decode(position: int, data: bytes) -> np.ndarray:
        try:
            return decode_image(data, size, color)
        except Exception as error:
            where = manifest.iloc[position]
            raise UserError(f"{where['path']} (row {where['row']}): cannot be decoded: {error}") from None

    with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4)) as pool:
        for positions, images in read_encoded(manifest):
            for start in range(0, len(images), 1024):
                some = slice(start, start + 1024)
                yield positions[some], np.stack(list(pool.map(decode, positions[some], images[some])))


def load_pixels(manifest: pd.DataFrame, size: int, color: str) -> np.ndarray:
    """All of `iterate_pixels`: uint8, N x size x size x channels, in the order of `manifest` (path, row, column)."""
    pixels = np.empty((len(manifest), size, size, CHANNELS[color]), np.uint8)
    for positions, images in iterate_pixels(manifest, size, color):
        pixels[positions] = images
    return pixels


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); re-index the data set") from None
