"""Image files whose XMP says that they are generated, by which model and from what prompt."""

import hashlib
import io
import shutil
import subprocess
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from synaug.generation.encoding import NAMESPACES, SOURCE_TYPE, encode, replace_provenance, update_licences
from synaug.generation.shards import generate_shard
from synaug.images.codec import decode_image, encode_image, inspect_image
from synaug.manifests import read_table
from synaug.manifests.schemas import SCHEMAS

FORMATS = ("png", "webp", "jpeg")
LOSSLESS = ("png", "webp")
MIME = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}
ROW = {
    "image_id": "0123456789abcdef01234567",
    "model": "models/tiny",
    "model_version": "sha256:00112233445566778899aabb",
    "adapters": "",
    "prompt": "a photo of a bag",
    "negative_prompt": "",
    "seed": 2**63 - 1,
    "licence": "MIT",
}
AWKWARD = [
    "less < more > and & \"double\" 'single' ]]> <!-- &amp;",
    "Stövel, 写真, фото, 🥾, e\u0301",
    "line\nline\r\ttab   spaces  ",
    "",
    "{label} %s {0} \\n $x",
]


def pixels(channels: int, size: int = 28) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, 256, (size, size, channels), dtype=np.uint8)


def fields(data: bytes) -> dict[str, str]:
    """The XMP of an image file, by local name."""
    packet = Image.open(io.BytesIO(data)).info["xmp"]
    description = ElementTree.fromstring(packet)[0][0]
    assert description.tag == f"{{{NAMESPACES['rdf']}}}Description"
    values = {name.rsplit("}", 1)[1]: text for name, text in description.attrib.items()}
    for rights in description.findall("dc:rights/rdf:Alt/rdf:li", NAMESPACES):
        values["rights"] = rights.text
    return values


@pytest.mark.parametrize("format", FORMATS)
def test_the_provenance_of_a_file(format):
    assert fields(encode(pixels(3), ROW, format)) == {
        "about": "",
        "DigitalSourceType": SOURCE_TYPE,
        "AISystemUsed": "diffusers model",
        "AISystemVersionUsed": ROW["model_version"],
        "AIPromptInformation": ROW["prompt"],
        "seed": str(ROW["seed"]),
        "identifier": ROW["image_id"],
        "rights": "MIT",
    }


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("text", AWKWARD)
def test_any_text_can_be_read_back(format, text):
    provenance = fields(encode(pixels(1), ROW | {"prompt": text, "licence": text}, format))
    assert provenance["AIPromptInformation"] == text
    assert provenance.get("rights", "") == text


def test_characters_that_xml_cannot_hold_are_replaced():
    provenance = fields(encode(pixels(1), ROW | {"prompt": "a\0b\x1bc\ud800d\uffffe"}, "png"))
    assert provenance["AIPromptInformation"] == "a\ufffdb\ufffdc\ufffdd\ufffde"


def test_a_hub_model_adapters_and_a_negative_prompt_are_named():
    adapters = (
        '[{"kind": "lora", "model": "one/style", "version": "0ab"}, '
        '{"kind": "lora", "model": "/my/other", "version": "sha256:ff"}]'
    )
    row = ROW | {"model": "group/model", "model_version": "1f2e", "adapters": adapters, "negative_prompt": "blur"}
    provenance = fields(encode(pixels(3), row, "png"))
    assert provenance["AISystemUsed"] == "group/model + lora one/style@0ab + lora sha256:ff"
    assert provenance["AISystemVersionUsed"] == "1f2e"
    assert provenance["AIPromptInformation"] == "a photo of a bag [negative: blur]"


@pytest.mark.parametrize("format", FORMATS)
def test_the_folder_of_the_model_changes_no_byte(format):
    assert encode(pixels(3), ROW, format) == encode(pixels(3), ROW | {"model": "elsewhere"}, format)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("channels", "color"), [(1, "grey"), (3, "rgb")])
def test_the_pixels_can_be_read_back(format, channels, color):
    data = encode(pixels(channels), ROW, format)
    decoded = decode_image(data, 28, color)
    if format in LOSSLESS:
        assert np.array_equal(decoded, pixels(channels))
    else:
        assert np.abs(decoded.astype(int) - pixels(channels)).mean() < 6  # noise is the worst case
    assert inspect_image(data, 1) == (28, 28, None)


@pytest.mark.skipif(shutil.which("file") is None, reason="needs the program file")
@pytest.mark.parametrize("format", FORMATS)
def test_other_programs_recognise_the_format(format, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(encode(pixels(3), ROW, format))
    output = subprocess.run(["file", "--brief", "--mime-type", path], capture_output=True, text=True, check=True).stdout
    assert output.strip() == MIME[format]


@pytest.mark.parametrize("format", FORMATS)
def test_another_licence_changes_no_pixel(format):
    """Replacing the provenance gives the file that would have been made under the other licence."""
    old, new = ROW | {"format": format}, ROW | {"format": format, "licence": "CC BY 4.0"}
    assert replace_provenance(encode(pixels(3), old, format), new) == encode(pixels(3), new, format)
    assert replace_provenance(encode(pixels(1), new, format), old) == encode(pixels(1), old, format)


def test_copied_images_get_the_licence_of_the_plan():
    rows = pd.DataFrame([ROW | {"format": "png", "image_id": name, "licence": "old"} for name in "abc"])

    def table(rows: pd.DataFrame) -> pa.Table:
        files = [encode(pixels(1), row, "png") for row in rows.to_dict("records")]
        hashes = [hashlib.sha256(data).hexdigest() for data in files]
        columns = {"image": [{"bytes": data, "path": "x"} for data in files], "sha256": hashes}
        table = pa.table(columns | {"licence": rows["licence"].tolist(), "image_id": list("abc")})
        licence = table.column("licence").cast(SCHEMAS["shard"].field("licence").type)
        return table.set_column(2, "licence", licence)

    new = rows.assign(licence=["old", "new", "other"])
    assert update_licences(table(rows), rows).equals(table(rows))
    updated, expected = update_licences(table(rows), new), table(new)
    assert updated.schema == expected.schema
    assert updated.to_pylist() == expected.to_pylist()


def test_a_plan_with_another_licence_copies_images_and_changes_their_provenance(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    old, new = tmp_path / "old.parquet", tmp_path / "new.parquet"
    rows = plan.iloc[:3].assign(licence="new & better")
    generate_shard(rows.assign(licence="old"), 4, old, tmp_path / "work", [], 1)
    generate_shard(rows, 4, new, tmp_path / "work", [], 1)
    copied = tmp_path / "copied.parquet"
    done = generate_shard(rows.assign(model="/nowhere"), 4, copied, tmp_path / "work", [old], 1)
    assert done == {"copied": 3, "sampled": 0}
    names = ["image", "sha256", "licence"]
    assert read_table("shard", copied, names).to_pylist() == read_table("shard", new, names).to_pylist()


@pytest.mark.parametrize("format", FORMATS)
def test_a_text_of_any_length_fits(format):
    long = ROW | {"prompt": "<é🥾>" * 20_000, "licence": "&" * 20_000, "model": "&" * 20_000, "model_version": "1"}
    data = encode(pixels(1), long, format)
    assert inspect_image(data, 1)[2] is None
    assert fields(data)["AIPromptInformation"].startswith("<é🥾><é🥾>")


def test_provenance_takes_less_than_800_bytes():
    image = pixels(1)
    assert len(encode(image, ROW, "png")) - len(encode_image(image)) < 800
