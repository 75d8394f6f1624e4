"""Encoded images and pixels: checking, decoding and encoding."""

import io

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

# Formats that Pillow itself decodes: no external program may be started for an untrusted file.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MODES = {"grey": "L", "rgb": "RGB"}
CHANNELS = {"grey": 1, "rgb": 3}
# Above this side, pixels, the training images are not all kept decoded in memory: 10,000 of 64 pixels take 120 MB.
LARGE = 64
Image.MAX_IMAGE_PIXELS = None  # this limit of Pillow only warns; `inspect_image` refuses large images


def inspect_image(data: bytes, max_megapixels: float) -> tuple[int | None, int | None, str | None]:
    """Width, height (pixels; None if unknown) and the reason why the encoded image cannot be used (None: it can).

    The whole image is decoded, because a truncated file has a valid header.
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
        # It is not defined which value is white.
        return width, height, "has 32-bit pixels; save it with 8 or 16 bits"
    try:
        image.load()
    except Exception as error:
        return width, height, f"is damaged ({error})"
    return width, height, None


def open_image(data: bytes, color: str, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode an image in the mode of `color`: rotated upright, transparency on white, of an animation the first frame.

    at_least: width and height (pixels) that suffice; a JPEG at least twice as large is decoded at a smaller size.
    """
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if at_least and image.format == "JPEG":
        rotated = image.getexif().get(ExifTags.Base.Orientation, 1) > 4  # by 90 degrees
        image.draft(None, at_least[::-1] if rotated else at_least)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        # `convert` would clip the values at 255 instead of scaling them.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        # Transparent pixels have any colour, often black, which no viewer shows.
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert(MODES[color])


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
