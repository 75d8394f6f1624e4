"""Encode pixels as an image file whose XMP metadata says that it was generated, by which model and from what prompt.

The fields are those of the IPTC Photo Metadata Standard 2025.1, plus `synaug:seed`, which the standard lacks.
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
from synaug.plan.checkpoints import is_local

# The IPTC term for media created by a trained model.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "synaug": "synaug:ns/",
}
# Longer texts are cut (characters). A JPEG has room for 65,502 bytes of XMP, and a character may take six bytes.
_MAX_PROMPT, _MAX_SYSTEM, _MAX_LICENCE = 9_000, 700, 700
_SETTINGS = {
    # Level 1 is five times as fast as the default, and the files are a few percent larger.
    "png": {"format": "PNG", "compress_level": 1},
    "webp": {"format": "WEBP", "lossless": True, "method": 0, "quality": 0, "exact": True},
    # 4:4:4: colours at full resolution.
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}
# Characters that XML 1.0 cannot represent.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def encode(pixels: np.ndarray, row: Mapping, format: str) -> bytes:
    """The image file of a uint8 array, H x W x 1 or H x W x 3, with its provenance as XMP.

    row: of the manifest `plan`. format: png or webp (both lossless), or jpeg (quality 95).
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


def replace_provenance(data: bytes, row: Mapping) -> bytes:
    """The file that `encode` gives for `row`, from the file `data` that it gave for a row with another licence."""
    if row["format"] != "jpeg":
        return encode(_pixels(data), row, row["format"])
    # Pillow writes metadata only by encoding the image again, which changes the pixels of a JPEG. The XMP is the only
    # APP1 segment: marker FF E1, its length in two bytes (from here on, these included), a name, the XMP.
    before, segment = data.split(b"\xff\xe1", 1)
    length = int.from_bytes(segment[:2], "big")
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + provenance(row).encode()
    return before + b"\xff\xe1" + (2 + len(xmp)).to_bytes(2, "big") + xmp + segment[length:]


def update_licences(images: pa.Table, rows: pd.DataFrame) -> pa.Table:
    """`images` (columns of the manifest `shard`) with the licences of `rows` (of a plan, in the same order).

    The licence decides no pixel, so it is not part of the id, and an image that was made under another licence is
    copied. Then its provenance changes, and with it the columns image, sha256 and licence.
    """
    old, new = images.column("licence").to_pylist(), rows["licence"].tolist()
    changed = [i for i in range(len(rows)) if old[i] != new[i]]
    if not changed:
        return images
    files, hashes = images.column("image").to_pylist(), images.column("sha256").to_pylist()
    for i, row in zip(changed, rows.iloc[changed].to_dict("records"), strict=True):
        files[i]["bytes"] = replace_provenance(files[i]["bytes"], row)
        hashes[i] = hashlib.sha256(files[i]["bytes"]).hexdigest()
    for name, values in (("image", files), ("sha256", hashes), ("licence", new)):
        column_type = images.schema.field(name).type
        images = images.set_column(images.column_names.index(name), name, pa.array(values).cast(column_type))
    return images


def _pixels(data: bytes) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(data), formats=FORMATS))
    return pixels.reshape(*pixels.shape[:2], -1)


def provenance(row: Mapping) -> str:
    """The XMP of one image: that it was generated, model and version, prompt, seed, licence, image_id.

    A local model is named by the hash of its contents, not by its folder: moving the folder changes no byte.
    """
    names = ("model", "model_version", "adapters", "prompt", "negative_prompt", "licence")
    before, after = _common_xmp(*(row[name] or "" for name in names))
    return f'{before} synaug:seed="{row["seed"]}" dc:identifier="{row["image_id"]}"{after}'


@lru_cache(4096)  # thousands of images share a prompt and a model
def _common_xmp(
    model: str, version: str, adapters: str, prompt: str, negative_prompt: str, licence: str
) -> tuple[str, str]:
    """The XMP before and after the fields that differ from image to image."""
    system = ["diffusers model" if is_local(version) else model]
    for adapter in json.loads(adapters or "[]"):
        source = "" if is_local(adapter["version"]) else f"{adapter['model']}@"
        system.append(f"{adapter['kind']} {source}{adapter['version']}")
    prompts = f"{prompt} [negative: {negative_prompt}]" if negative_prompt else prompt
    namespaces = " ".join(f'xmlns:{name}="{uri}"' for name, uri in NAMESPACES.items() if name not in ("x", "rdf"))
    before = (
        f'<x:xmpmeta xmlns:x="{NAMESPACES["x"]}"><rdf:RDF xmlns:rdf="{NAMESPACES["rdf"]}">'
        f'<rdf:Description rdf:about="" {namespaces} Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"'
        f" Iptc4xmpExt:AISystemUsed={_attribute(' + '.join(system)[:_MAX_SYSTEM])}"
        f" Iptc4xmpExt:AISystemVersionUsed={_attribute(version)}"
        f" Iptc4xmpExt:AIPromptInformation={_attribute(prompts[:_MAX_PROMPT])}"
    )
    rights = ""
    if licence:
        text = _attribute(licence[:_MAX_LICENCE])[1:-1]
        rights = f'<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></dc:rights>'
    return before, f">{rights}</rdf:Description></rdf:RDF></x:xmpmeta>"


def _attribute(text: str) -> str:
    """`text` as a quoted XML attribute value; line ends and tabs are kept."""
    return quoteattr(_ILLEGAL.sub("\ufffd", text), {"\t": "&#9;", "\n": "&#10;", "\r": "&#13;"})
