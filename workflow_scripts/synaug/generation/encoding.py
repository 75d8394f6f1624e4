"""Pixels to an image file that says itself, as XMP, that it was generated, by which model, and from what.

The fields are those of the IPTC Photo Metadata Standard 2025.1, which tools know, and `synaug:seed`, which it lacks.
"""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image, PngImagePlugin

from synaug.images.codec import FORMATS
from synaug.plan.checkpoints import CONTENTS

# What IPTC calls media that a model trained on others' media has made.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "synaug": "synaug:ns/",
}
# Characters of each text that are kept. A JPEG has room for 65,502 bytes of XMP, and a character may become six bytes.
_MOST_PROMPT, _MOST_SYSTEM, _MOST_LICENCE = 9_000, 700, 700
_SETTINGS = {
    # Level 1 is five times as fast as the default, for a few percent of the size.
    "png": {"format": "PNG", "compress_level": 1},
    "webp": {"format": "WEBP", "lossless": True, "method": 0, "quality": 0, "exact": True},
    # 4:4:4: colours at full resolution.
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}
# Characters that XML 1.0 cannot hold in any form.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def encode(pixels: np.ndarray, row: Mapping, format: str) -> bytes:
    """The image file of a uint8 array, H x W x 1 or H x W x 3, with its provenance in it.

    row: with the columns of the manifest `plan`. format: png or webp (both lossless), or jpeg (quality 95).
    The same pixels and row give the same bytes.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    settings: dict[str, Any] = dict(_SETTINGS[format])
    if format == "png":
        settings["pnginfo"] = info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", provenance(row))
    else:
        settings["xmp"] = provenance(row).encode()
    buffer = io.BytesIO()
    image.save(buffer, **settings)
    return buffer.getvalue()


def relabel(data: bytes, row: Mapping) -> bytes:
    """The image file `data`, which `encode` made, with the provenance of `row`; its pixels stay as they are.

    For an image that is copied into a plan that names another licence: what `encode` would give for that plan.
    """
    if row["format"] != "jpeg":
        return encode(_pixels(data), row, row["format"])
    # Decoding and encoding again would change pixels. `encode` has put one segment with XMP into it.
    start = data.index(b"\xff\xe1")
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    body = b"http://ns.adobe.com/xap/1.0/\0" + provenance(row).encode()
    return data[:start] + b"\xff\xe1" + (2 + len(body)).to_bytes(2, "big") + body + data[end:]


def relabel_images(images: pa.Table, rows: pd.DataFrame) -> pa.Table:
    """`images` (columns of the manifest `shard`) under the licences of `rows` (of a plan, in the same order).

    The licence does not decide what an image shows, and so is not in its id: an image that was made under another one
    is copied. What changes is its provenance, and with it the columns image, sha256 and licence.
    """
    old, new = images.column("licence").to_pylist(), rows["licence"].tolist()
    other = [i for i, (one, two) in enumerate(zip(old, new, strict=True)) if one != two]
    if not other:
        return images
    made, sums = images.column("image").to_pylist(), images.column("sha256").to_pylist()
    for i, row in zip(other, rows.iloc[other].to_dict("records"), strict=True):
        made[i]["bytes"] = relabel(made[i]["bytes"], row)
        sums[i] = hashlib.sha256(made[i]["bytes"]).hexdigest()
    for name, values in (("image", made), ("sha256", sums), ("licence", new)):
        kind = images.schema.field(name).type
        images = images.set_column(images.column_names.index(name), name, pa.array(values).cast(kind))
    return images


def _pixels(data: bytes) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(data), formats=FORMATS))
    return pixels.reshape(*pixels.shape[:2], -1)


def provenance(row: Mapping) -> str:
    """XMP that says of one image: generated, by which model and version, prompt, seed, licence, image_id.

    A local model is named by the hash of its contents, not by its folder: the same image has the same bytes wherever
    the folder lies.
    """
    names = ("model", "model_version", "adapters", "prompt", "negative_prompt", "licence")
    before, after = _shared(*(row[name] or "" for name in names))
    return f'{before} synaug:seed="{row["seed"]}" dc:identifier="{row["image_id"]}"{after}'


# Thousands of images share a prompt and a model.
@lru_cache(4096)
def _shared(
    model: str, version: str, adapters: str, prompt: str, negative_prompt: str, licence: str
) -> tuple[str, str]:
    """The XMP before and after what differs from image to image."""
    local = version.startswith(CONTENTS)
    system = ["diffusers model" if local else model]
    for one in json.loads(adapters or "[]"):
        name = one["version"] if one["version"].startswith(CONTENTS) else f"{one['model']}@{one['version']}"
        system.append(f"{one['kind']} {name}")
    said = f"{prompt} [negative: {negative_prompt}]" if negative_prompt else prompt
    spaces = " ".join(f'xmlns:{name}="{uri}"' for name, uri in NAMESPACES.items() if name not in ("x", "rdf"))
    before = (
        f'<x:xmpmeta xmlns:x="{NAMESPACES["x"]}"><rdf:RDF xmlns:rdf="{NAMESPACES["rdf"]}">'
        f'<rdf:Description rdf:about="" {spaces} Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"'
        f" Iptc4xmpExt:AISystemUsed={_attribute(' + '.join(system)[:_MOST_SYSTEM])}"
        f" Iptc4xmpExt:AISystemVersionUsed={_attribute(version)}"
        f" Iptc4xmpExt:AIPromptInformation={_attribute(said[:_MOST_PROMPT])}"
    )
    rights = ""
    if licence:
        text = _attribute(licence[:_MOST_LICENCE])[1:-1]
        rights = f'<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></dc:rights>'
    return before, f">{rights}</rdf:Description></rdf:RDF></x:xmpmeta>"


def _attribute(text: str) -> str:
    """`text` as an XML attribute value, quotes around it; line ends and tabs survive as they are."""
    return quoteattr(_ILLEGAL.sub("\ufffd", text), {"\t": "&#9;", "\n": "&#10;", "\r": "&#13;"})
