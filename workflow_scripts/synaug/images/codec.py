"""Encoded images and pixels: checking, decoding and encoding."""

import io

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

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
