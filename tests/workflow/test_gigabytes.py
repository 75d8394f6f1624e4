"""2.4 GB of images in one file, through everything that a user does with them: in bounded memory, and to the end.

Arrow cannot hold more than 2 GiB of images in one array. Only by `make test-slow`; 10 GB in the temporary folder.
"""

import hashlib
import shutil
import struct
import threading
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synaug.commands.export import Layout, export_images
from synaug.commands.verify import verify_experiment
from synaug.config import Balance, Dataset, Generation, Imbalance, Prompts, Screening
from synaug.datasets import index_dataset, write_table
from synaug.generation import pipelines, sampling, shards
from synaug.images.contact_sheet import draw_sheet_of
from synaug.images.packing import PixelCache, pack_images
from synaug.images.store import read_encoded
from synaug.imbalance import measure_imbalance
from synaug.manifests import read_manifest, read_table, write_manifest
from synaug.manifests.schemas import IMAGE
from synaug.plan.rows import plan_generation
from synaug.report.gallery import thumbnails
from synaug.screening.comparison import compare_images, read_real_images
from synaug.screening.filters import apply_filters
from synaug.screening.planned import Planned
from synaug.screening.scoring import ImageForm, score_real, score_shard

pytestmark = pytest.mark.slow

SIDE = 1424  # of a colour image of 6 MB
COUNT = 400  # images in a file: 2.4 GB
MOST_MEMORY = 4e9  # bytes, without mapped files
NAMES = ["cat", "dog"]
FORM = ImageForm(64, "rgb")


def noise(number: int) -> np.ndarray:
    """Pixels, uint8, SIDE x SIDE x 3, other ones for each number."""
    return np.roll(NOISE, number * 7919, axis=1) ^ np.uint8(number % 251)


NOISE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def encode(pixels: np.ndarray, *_) -> bytes:
    """PNG without compression and filters: Pillow would need minutes to write 400 images of noise."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    lines = np.pad(pixels.reshape(SIDE, -1), ((0, 0), (1, 0)))  # each line begins with the number of its filter
    data = zlib.compress(lines.tobytes(), 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.fixture(scope="module", autouse=True)
def memory():
    """The largest memory of this process so far, without mapped files, in bytes."""
    process, most, stop = psutil.Process(), SimpleNamespace(bytes=0), threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            used = process.memory_info()
            most.bytes = max(most.bytes, used.rss - used.shared)

    thread = threading.Thread(target=watch)
    thread.start()
    yield most
    stop.set()
    thread.join()


@pytest.fixture(autouse=True)
def _bounded(memory):
    yield
    print(f"{memory.bytes / 1e9:.2f} GB of memory")
    assert memory.bytes < MOST_MEMORY


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """results/big of an experiment with 400 real images of 6 MB in one table."""
    root = tmp_path_factory.mktemp("gigabytes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNAUG_DEVICES", "cpu")
        patch.chdir(root)
        (root / "results/big").mkdir(parents=True)
        yield root / "results/big"
    shutil.rmtree(root)  # pytest would keep the gigabytes of three runs


@pytest.fixture(scope="module")
def source(home, memory) -> Path:
    """A Hugging Face data set: one file with one row group, as other programs write it."""
    file = home / "source/train-00000-of-00001.parquet"
    file.parent.mkdir()
    images = [pa.array([{"bytes": encode(noise(number)), "path": None}], IMAGE) for number in range(COUNT)]
    table = pa.table({"image": pa.chunked_array(images), "label": [NAMES[number % 2] for number in range(COUNT)]})
    pq.write_table(table, file, use_dictionary=False, compression="NONE", write_batch_size=8, row_group_size=COUNT)
    del images, table
    assert pq.read_metadata(file).num_row_groups == 1 and file.stat().st_size > 2.3e9
    pa.default_memory_pool().release_unused()
    memory.bytes = 0  # what was needed to write this file does not count
    return file


@pytest.fixture(scope="module")
def real(home, source) -> pd.DataFrame:
    """Converts the data set to a table, and indexes the table."""
    folder = str(source.parent)
    block = Dataset(source="huggingface", path=folder, image_size=64, color="rgb", make_splits={"test": 0.1})
    assert write_table(block, home / "images.parquet") == COUNT
    source.unlink()
    rows = index_dataset(
        Dataset(
            source="table",
            path="results/big/images.parquet",
            image_size=64,
            color="rgb",
            label_column="label_name",
            make_splits={"test": 0.1},
        )
    )
    assert len(rows) == COUNT and rows["usable"].all() and rows["image_id"].is_unique
    write_manifest("real", rows, home / "real.parquet")
    return read_manifest("real", home / "real.parquet")


@pytest.fixture(scope="module")
def plan(home) -> pd.DataFrame:
    cells = pd.DataFrame({"label_name": NAMES * 2, "label": [0, 1] * 2, "split": "train", "usable": True})
    rows = plan_generation(
        measure_imbalance(cells, "train", Imbalance()),
        balance=Balance(strategy="fixed", target=COUNT // 2 + 2),
        prompts=Prompts(),
        generation=Generation(model="m", steps=1, size=SIDE, images_per_shard=1000),
        seed=0,
        image_size=SIDE,
        color="rgb",
        version="v",
    )
    assert rows["shard"].nunique() == 1 and len(rows) == COUNT
    write_manifest("plan", rows, home / "plan.parquet")
    return read_manifest("plan", home / "plan.parquet")


@pytest.fixture(scope="module")
def shard(home, plan) -> Path:
    """A shard of 400 images in batches of eight, of a pretended model."""

    def sample(pipeline, rows, batch_size, sources):
        for start in range(0, len(rows), 8):
            batch = rows.iloc[start : start + 8]
            pixels = np.stack([noise(1000 + start + number) for number in range(len(batch))])
            yield batch.assign(batch_size=batch_size), pixels

    out = home / f"shards/{plan['shard'].iloc[0]}.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipelines, "load_pipeline", lambda *_: None)
        patch.setattr(pipelines, "check_rows", lambda *_: None)
        patch.setattr(sampling, "sample", sample)
        patch.setattr(shards, "encode", encode)
        done = shards.generate_shard(plan, 8, out, home / "work/x", [], 2)
    assert done == {"copied": 0, "sampled": COUNT} and out.stat().st_size > 2.3e9
    return out


@pytest.fixture(scope="module")
def synthetic(home, plan, real, shard) -> pd.DataFrame:
    """The screened images."""
    scored = home / "scores" / shard.name
    scored.parent.mkdir()
    write_manifest("shard_scores", score_shard(plan, str(shard), FORM), scored)
    write_manifest("real_scores", score_real(real, FORM), home / "real_scores.parquet")
    planned, images = Planned(read_table("plan", home / "plan.parquet")), read_real_images(home / "real_scores.parquet")
    compared = {"duplicates": True, "leakage": True}
    [scores], _ = compare_images(planned, [scored], "results/big/shards", images, "train", **compared)
    write_manifest("scores", scores, home / "scores.parquet")
    # All are kept: images of noise are near-duplicates of each other.
    rows = apply_filters(read_manifest("scores", home / "scores.parquet"), Screening())
    write_manifest("synthetic", rows, home / "synthetic.parquet")
    return read_manifest("synthetic", home / "synthetic.parquet")


@pytest.fixture(scope="module")
def balanced(home, synthetic) -> pd.DataFrame:
    write_manifest(
        "balanced",
        synthetic[["image_id", "label", "label_name", "sha256", "path", "row", "column"]].assign(
            source="synthetic", weight=1.0, group=""
        ),
        home / "balanced.parquet",
    )
    return read_manifest("balanced", home / "balanced.parquet")


def test_a_table_is_converted_and_indexed(real):
    for positions, images in read_encoded(real):
        for position, data in zip(positions, images, strict=True):
            assert hashlib.sha256(data).hexdigest() == real["sha256"].iloc[position]


def test_a_shard_is_sampled_in_batches_and_copied(home, plan, shard):
    assert not (home / "work/x").exists()
    copy = home / "copy.parquet"
    assert shards.generate_shard(plan, 8, copy, home / "work/y", [shard], 2) == {"copied": COUNT, "sampled": 0}
    with copy.open("rb") as one, shard.open("rb") as other:
        assert hashlib.file_digest(one, "sha256").digest() == hashlib.file_digest(other, "sha256").digest()
    copy.unlink()


def test_images_are_scored_and_screened(synthetic):
    assert len(synthetic) == COUNT and synthetic["accepted"].all()
    assert synthetic["row"].notna().all() and set(synthetic["width"]) == {SIDE}


def test_the_gallery_has_thumbnails_and_a_contact_sheet_is_drawn(home, shard, real, synthetic):
    for rows in (real, synthetic):
        assert all(thumbnails(rows.groupby("label").head(12), 64, "rgb"))
    assert draw_sheet_of(shard, home / "sheet.png") == (2, 2)
    (home / "sheet.png").unlink()


@pytest.mark.parametrize("layout", [Layout.hf, Layout.webdataset])
def test_the_training_set_is_exported(home, balanced, layout):
    export_images(balanced, home, layout, home / "export")
    files = [file for file in (home / "export").rglob("*") if file.suffix in (".parquet", ".tar")]
    assert sum(file.stat().st_size for file in files) > 2.3e9
    for file in files:
        file.unlink()
    (home / "export/README.md").unlink()
    for folder in sorted((home / "export").rglob("*"), reverse=True):
        folder.rmdir()


def test_images_are_packed_or_decoded_for_the_training(home, balanced):
    rows = pack_images(balanced, home / "images.bin")
    assert rows["length"].sum() == (home / "images.bin").stat().st_size > 2.3e9
    (home / "images.bin").unlink()
    pixels = PixelCache(home / "pixels", 64, "rgb").pixels(balanced)
    assert sorted(pixels.row) == list(range(COUNT))


def test_every_image_is_verified(home, balanced):
    checked = list(verify_experiment(home))
    assert [line for file in checked for line in file.findings] == []
    assert max(file.images for file in checked) == COUNT
