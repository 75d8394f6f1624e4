"""Images that use few of the bits of their files, and are decoded nearly black."""

import io
import re

import numpy as np
from PIL import ExifTags, Image

from synaug.images import codec

# Of a colour PPM: type, width, height and the value that is white (the last match of the group), with comments between.
_COLOUR_PPM = re.compile(rb"P[36](?:(?:\s|#[^\r\n]*[\r\n])+(?P<white>\d{1,10})){3}")


def uses_few_bits(data: bytes) -> bool:
    """As `codec.uses_few_bits`, and also of a colour PPM and of colours with an alpha channel.

    It is not part of that module because generation and training use that: a change of it would run them all again.
    """
    if codec.uses_few_bits(data):
        return True
    ppm = _COLOUR_PPM.match(data)
    is_deep_ppm = ppm is not None and int(ppm["white"]) > 255
    # The bytes 24 and 25 of a PNG are its bit depth and its type: grey or colour with an alpha channel.
    is_deep_png = data.startswith(b"\x89PNG") and data[24:26] in (b"\x10\x04", b"\x10\x06")
    if not (is_deep_ppm or is_deep_png or data.startswith((b"II", b"MM"))):
        return False
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "TIFF", "PPM"))
        if image.format == "TIFF":
            bits = max(image.tag_v2.get(ExifTags.Base.BitsPerSample, (8,)))
            if image.mode != "RGBA" or bits != 16:
                return False
        highest = int(np.asarray(image)[..., :3].max(initial=0))
    except Exception:  # a damaged file can raise nearly any exception
        return False
    # Pillow keeps the upper 8 of the 16 bits; the values of a PPM it rounds.
    return 0 < highest <= (16 if is_deep_ppm else 15)
