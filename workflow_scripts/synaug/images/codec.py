"""Encoded images and pixels: checking, decoding and encoding."""

import io
import re
from collections.abc import Callable

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from synaug.runtime.errors import short_text

# Formats that Pillow itself decodes: no external program may be started for an untrusted file.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MODES = {"grey": "L", "rgb": "RGB"}
CHANNELS = {"grey": 1, "rgb": 3}
# Above this side, pixels, the training images are not all kept decoded in memory: 10,000 of 64 pixels take 120 MB.
LARGE = 64
Image.MAX_IMAGE_PIXELS = None  # this limit of Pillow only warns; `inspect_image` refuses large images


_MAX_SIDE = 2**31 - 1  # of manifests, in which sizes are int32
# EXIF orientation -> what turns the image upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def inspect_image(data: bytes, max_megapixels: float, color: str = "rgb") -> tuple[int | None, int | None, str | None]:
    """Width, height (pixels; None if unknown) and the reason why the encoded image cannot be used (None: it can).

    The whole image is decoded and converted to the mode of `color`, as `open_image` does: a truncated file has a valid
    header, and not every mode can be converted.
    """
    if not data:
        return None, None, "is empty (0 bytes)"
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        return None, None, "is not an image of a known format"
    except Exception as error:
        return None, None, f"has a broken header ({short_text(error)})"
    width, height = image.size
    if width * height > max_megapixels * 1e6:
        if max(width, height) > _MAX_SIDE:
            return None, None, f"is larger than {max_megapixels:g} megapixels ({width} x {height} pixels)"
        return width, height, f"is larger than {max_megapixels:g} megapixels"
    if image.mode in ("I", "F") and not _is_deep_grey(image):
        # It is not defined which value is white.
        return width, height, "has 32-bit or signed pixels; save it with 8 or 16 bits, unsigned"
    try:
        image.load()
    except Exception as error:
        return width, height, f"is damaged ({short_text(error)})"
    try:
        _convert(image, color)
    except Exception as error:
        return width, height, f"cannot be converted to {MODES[color]} ({short_text(error)})"
    return width, height, None


def open_image(data: bytes, color: str, at_least: Callable[[int, int], tuple[int, int]] | None = None) -> Image.Image:
    """Decode an image in the mode of `color`: rotated upright, transparency on white, of an animation the first frame.

    at_least: maps width and height of the upright image (pixels) to those that suffice; a JPEG at least twice as large
    is decoded at a smaller size.
    """
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    # Of a JPEG alone: to learn its orientation, Pillow would decode a PNG.
    if at_least and image.format == "JPEG":
        rotated = _orientation(image) > 4  # by 90 degrees
        enough = at_least(*(image.size[::-1] if rotated else image.size))
        image.draft(None, enough[::-1] if rotated else enough)
    return _convert(image, color)


def _convert(image: Image.Image, color: str) -> Image.Image:
    """An opened image, upright and opaque, in the mode of `color`."""
    image.load()  # the EXIF data of a PNG may come after the pixels
    is_deep = _is_deep_grey(image)
    orientation = _orientation(image)
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    if is_deep:
        # `convert` would clip the values at 255 instead of scaling them.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "LAB":
        image = image.convert("RGB")  # Pillow cannot convert it to grey
    if image.has_transparency_data:
        # Transparent pixels have any colour, often black, which no viewer shows.
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert(MODES[color])


def _is_deep_grey(image: Image.Image) -> bool:
    """Whether an opened image is grey with values from 0 to 65535. Those of a PGM have 32 bits, scaled by Pillow."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) if the EXIF data are damaged, since the pixels may be fine."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # of damaged EXIF data, nearly any exception
        return 1
    return orientation if orientation in _UPRIGHT else 1


# Of a colour PPM: type, width, height and the value that is white (the last match of the group), with comments between.
_COLOUR_PPM = re.compile(rb"P[36](?:(?:\s|#[^\r\n]*[\r\n])+(?P<white>\d{1,10})){3}")


def uses_few_bits(data: bytes) -> bool:
    """Whether an image with 16 bits per sample uses at most 12 of them, or has 12, as of some cameras and scanners.

    It is decoded nearly black, because the largest possible value is taken for white. data: a usable image, which may
    be decoded whatever its size is.
    """
    is_png, is_pgm = data.startswith(b"\x89PNG"), data.startswith((b"P2", b"P5"))
    colour_ppm = _COLOUR_PPM.match(data)
    is_deep_ppm = colour_ppm is not None and int(colour_ppm["white"]) > 255
    # The byte 24 of a PNG is its bit depth, after the signature, a length, the word IHDR, width and height.
    if not ((is_png and data[24:25] == b"\x10") or is_pgm or is_deep_ppm or data.startswith((b"II", b"MM"))):
        return False
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "TIFF", "PPM"))
        is_deep_grey = _is_deep_grey(image)
        if is_pgm and not is_deep_grey:
            return False
        if image.format == "TIFF" and max(image.tag_v2.get(ExifTags.Base.BitsPerSample, (8,))) not in (12, 16):
            return False
        pixels = np.asarray(image)
    except Exception:  # a damaged file can raise nearly any exception
        return False
    if image.mode in ("LA", "RGBA"):
        pixels = pixels[..., :-1]  # without alpha, which is white where nothing is transparent
    highest = int(pixels.max(initial=0))
    if is_deep_grey:
        return 0 < highest < 1 << 12
    # Pillow keeps the upper 8 of the 16 bits; the values of a PPM it rounds.
    return 0 < highest < (1 << 4) + is_deep_ppm


def decode_image(data: bytes, size: int, color: str) -> np.ndarray:
    """Decode to uint8, size x size x channels.

    The shorter side is scaled to `size` (bicubic, antialiased) and the centre is cropped, so nothing is distorted.
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
