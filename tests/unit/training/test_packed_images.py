"""Images in one file: large ones decoded in advance, small ones decoded once, with the same results for a seed."""

import errno
import fcntl
import hashlib
import io
import os
import platform
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from synaug.config import CutMix, RandAugment, Stage1, Stage2
from synaug.evaluation.predictions import predict
from synaug.images import store
from synaug.images.codec import LARGE, decode_image
from synaug.images.packing import PixelCache, pack_images
from synaug.images.store import iterate_pixels, load_pixels
from synaug.manifests import read_manifest, write_manifest
from synaug.networks.classifier import Classifier
from synaug.runtime.errors import UserError
from synaug.training import loop
from synaug.training.checkpoint import Checkpoint
from synaug.training.data import LargeImages, SmallImages, images_of_rule, load_training_set, open_training_set
from synaug.training.packed import PackedImages, decode_crop
from synaug.training.stage1 import train_stage1
from synaug.training.stage2 import finetune_stage2
from training_sets import same_weights

CLASSES = ["dark", "light"]
SETTINGS = Stage1(width=4, steps=9, batch_size=8, crop_area=0.3, learning_rate=0.02)


def encoded(value: int, file_format: str = "JPEG", size=(96, 80)) -> bytes:
    noise = np.random.default_rng(value).integers(0, 60, (size[1], size[0], 3))
    buffer = io.BytesIO()
    Image.fromarray((noise + value).astype(np.uint8)).save(buffer, file_format)
    return buffer.getvalue()


@pytest.fixture
def balanced(tmp_path) -> pd.DataFrame:
    """Rows of the manifest `balanced`: 24 images, half of them in files and half of them in a table."""
    rows = []
    for i in range(12):
        path = tmp_path / f"{i}.jpg"
        path.write_bytes(encoded(10 + 2 * i))
        rows.append({"image_id": f"r{i:02}", "label": i % 2, "source": "real", "path": str(path), "row": None})
    images = [{"bytes": encoded(100 + 2 * i, "PNG"), "path": f"{i}.png"} for i in range(12)]
    pq.write_table(pa.table({"image": images}), tmp_path / "shard.parquet")
    synthetic = {"source": "synthetic", "path": str(tmp_path / "shard.parquet")}
    rows += [{"image_id": f"s{i:02}", "label": i % 2, "row": i, **synthetic} for i in range(12)]
    table = pd.DataFrame(rows).assign(column="image", weight=1.0)
    table["sha256"] = [hashlib.sha256(image_id.encode()).hexdigest() for image_id in table["image_id"]]
    return table.assign(label_name=[CLASSES[i] for i in table["label"]]).astype({"row": "Int64"})


def pack(rows: pd.DataFrame, folder, size: int) -> SmallImages | LargeImages:
    if size <= LARGE:
        return SmallImages(PixelCache(folder / "pixels", size, "rgb"))
    index, path = str(folder / "index.parquet"), str(folder / "images.bin")
    write_manifest("packed", pack_images(rows, path), index)
    return LargeImages(path, index, size, "rgb", threads=2)


@pytest.fixture
def packed(balanced, tmp_path):
    return open_training_set(balanced, pack(balanced, tmp_path, 72), "cpu")


def test_packed_images_are_those_of_the_manifest(balanced, packed):
    assert isinstance(packed.images, PackedImages)
    decoded = load_training_set(balanced, 72, "rgb", "cpu")
    positions = torch.randperm(24)
    assert torch.equal(packed.images[positions], decoded.images[positions])
    assert torch.equal(packed.labels, decoded.labels)
    assert torch.equal(packed.synthetic, decoded.synthetic)


def test_the_same_seed_gives_the_same_network_and_another_seed_another(packed):
    weights = [train_stage1(packed, CLASSES, SETTINGS, seed)[0].state_dict() for seed in (0, 0, 1)]
    assert same_weights(weights[0], weights[1])
    assert not torch.equal(weights[0]["head.weight"], weights[2]["head.weight"])


def test_an_interrupted_training_ends_in_the_same_weights(packed, tmp_path, monkeypatch):
    settings = SETTINGS.model_copy(update={"randaugment": RandAugment(), "cutmix": CutMix(alpha=1.0)})
    whole = train_stage1(packed, CLASSES, settings, 0)[0].state_dict()
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 0.0)
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    checkpoint = Checkpoint(tmp_path / "state.pt", "key")
    saves, save = [], Checkpoint.save

    def save_and_stop(self, state):
        save(self, state)
        saves.append(state["step"])
        if len(saves) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train_stage1(packed, CLASSES, settings, 0, checkpoint)
    resumed = train_stage1(packed, CLASSES, settings, 0, checkpoint)[0].state_dict()
    assert saves[:2] == [2, 4]
    assert same_weights(whole, resumed)


@pytest.mark.parametrize(("device", "locked"), [("cpu", False), ("cuda:0", True)])
def test_batches_for_a_gpu_are_decoded_into_page_locked_memory(packed, device, locked, monkeypatch):
    pinned, empty = [], torch.empty

    def ordinary(*arguments, pin_memory, **keywords):  # page-locked memory needs a GPU
        pinned.append(pin_memory)
        return empty(*arguments, **keywords)

    monkeypatch.setattr(torch, "empty", ordinary)
    packed.images.device = torch.device(device)
    pixels = packed.images.start_decoding(torch.arange(4), None).wait()
    assert pinned == [locked] and pixels.float().std() > 0


def test_the_last_layer_can_be_tuned_on_packed_images(balanced, tmp_path):
    real = open_training_set(balanced[balanced["source"] == "real"], pack(balanced, tmp_path, 72), "cpu")
    model = train_stage1(real, CLASSES, SETTINGS, 0)[0]
    settings = Stage2(steps=3, images_per_class=2)
    tuned, _ = finetune_stage2(model, real, settings, SETTINGS, 0, np.array([6, 6]))
    assert not torch.equal(tuned.head.weight, model.head.weight)
    assert torch.equal(tuned.body[0].weight, model.body[0].weight)


def test_a_crop_of_everything_is_the_whole_image_and_half_of_it_is_that_half():
    data = encoded(40, "PNG", (64, 64))
    whole = decode_crop(data, np.array([0.0, 0, 1, 1]), 64, "rgb")
    assert np.array_equal(whole, decode_image(data, 64, "rgb"))
    right = decode_crop(data, np.array([1.0, 0, 0.5, 1]), 64, "rgb")
    assert abs(right.mean() - whole[:, 32:].mean()) < 1


def test_a_large_jpeg_is_decoded_at_a_smaller_size_and_upright():
    picture = np.zeros((800, 800, 3), np.uint8)
    picture[:, 400:] = 200
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", exif=rotated_exif())
    shrunk = decode_crop(buffer.getvalue(), np.array([0.0, 0, 1, 1]), 64, "grey")[..., 0]
    assert shrunk[:20].mean() < 10 and shrunk[-20:].mean() > 190  # upright, the right half is the lower half


@pytest.mark.parametrize(("width", "height"), [(600, 200), (200, 600)])
def test_a_crop_of_a_wide_or_tall_image_is_not_squeezed(width, height):
    """A circle in the middle of the image is as wide as it is high."""
    y, x = np.mgrid[:height, :width]
    circle = np.hypot(x - width / 2 + 0.5, y - height / 2 + 0.5) < 80
    buffer = io.BytesIO()
    Image.fromarray((255 * circle).astype(np.uint8)).save(buffer, "JPEG")
    shown = decode_crop(buffer.getvalue(), np.array([0.5, 0.5, 0.57, 0.57]), 64, "grey")[..., 0] > 127
    assert abs(int(shown.any(0).sum()) - int(shown.any(1).sum())) <= 1 and 40 < shown.any(0).sum() < 64


def rotated_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90 degrees
    return exif.tobytes()


def test_an_image_that_is_gone_stops_the_packing_and_leaves_no_file(balanced, tmp_path):
    (tmp_path / "3.jpg").unlink()
    with pytest.raises(UserError, match=r"3\.jpg"):
        pack_images(balanced, tmp_path / "images.bin")
    assert not (tmp_path / "images.bin").exists()
    with pytest.raises(UserError, match=r"3\.jpg"):
        load_pixels(balanced, 64, "rgb")


def test_a_damaged_packed_image_is_one_line(tmp_path):
    (tmp_path / "images.bin").write_bytes(b"no image")
    images = PackedImages(str(tmp_path / "images.bin"), np.array([0]), np.array([8]), 64, "rgb", "cpu", 1)
    with pytest.raises(UserError, match="cannot be decoded"):
        images[torch.tensor([0])]


@pytest.mark.parametrize("size", [64, 72])
def test_a_recipe_has_the_pixels_of_its_images(balanced, tmp_path, size):
    """Small images (up to 64 pixels) and large ones."""
    write_manifest("balanced", balanced, tmp_path / "balanced.parquet")
    rows = read_manifest("balanced", tmp_path / "balanced.parquet")
    decoded = load_training_set(rows[rows["source"] == "real"], size, "rgb", "cpu")
    packed = open_training_set(rows[rows["source"] == "real"], pack(balanced, tmp_path, size), "cpu")
    assert isinstance(packed.images, torch.Tensor) == (size == 64)
    assert torch.equal(decoded.images, packed.images[torch.arange(12)])
    assert decoded.images.stride() == packed.images[torch.arange(12)].stride() or size == 72
    for name in ("labels", "synthetic", "weights"):
        assert torch.equal(getattr(decoded, name), getattr(packed, name))


@pytest.mark.parametrize("size", [64, 72])
def test_predictions_have_the_same_bytes_as_with_images_that_are_decoded_for_them(balanced, tmp_path, size):
    torch.manual_seed(0)
    model = Classifier("resnet8", 4, CLASSES, size, 3)
    shuffled = balanced.sample(frac=1, random_state=0).assign(split="test")
    rows = [
        predict(model, shuffled, batches)
        for batches in (iterate_pixels(shuffled, size, "rgb"), pack(balanced, tmp_path, size).iterate(shuffled))
    ]
    assert rows[0]["image_id"].tolist() == rows[1]["image_id"].tolist()
    assert np.stack(rows[0]["probabilities"]).tobytes() == np.stack(rows[1]["probabilities"]).tobytes()


def test_small_images_are_decoded_once_and_shared(balanced, tmp_path, monkeypatch):
    """The first network decodes its images, the next one only those that are new."""
    decoded = []
    decode = store.decode_image
    monkeypatch.setattr(store, "decode_image", lambda *arguments: decoded.append(1) or decode(*arguments))
    images = [pack(balanced, tmp_path, 32) for _ in range(3)]
    open_training_set(pd.concat([balanced[:10], balanced[:3]]), images[0], "cpu")
    assert len(decoded) == 10
    whole = open_training_set(balanced, images[1], "cpu")
    assert len(decoded) == 24
    assert torch.equal(whole.images, open_training_set(balanced, images[2], "cpu").images)
    list(images[2].iterate(balanced))
    assert len(decoded) == 24
    assert torch.equal(whole.images, load_training_set(balanced, 32, "rgb", "cpu").images)


@pytest.mark.parametrize("color", ["grey", "rgb"])
def test_small_images_are_in_memory_once(tmp_path, color):
    cache, count = PixelCache(tmp_path, 32, color), 8000
    ids = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(count)]
    pixels = np.random.default_rng(0).integers(0, 256, (count, *cache.shape), np.uint8)
    cache.folder.mkdir()
    (cache.folder / "all.pixels").write_bytes(pixels.tobytes() + bytes.fromhex("".join(ids)))
    rows = pd.DataFrame({"sha256": ids, "path": "x", "column": "image", "row": pd.array(range(count), "Int64")})
    order = np.random.default_rng(1).permutation(count)
    tracemalloc.start()
    images = SmallImages(cache).images(rows.iloc[order], "cpu")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected = torch.from_numpy(pixels[order]).permute(0, 3, 1, 2).contiguous()
    assert torch.equal(images, expected) and images.stride() == expected.stride()
    assert peak < 1.6 * pixels.nbytes + 2e6


def test_without_locks_the_images_are_cached_with_a_warning(balanced, tmp_path, monkeypatch, caplog):
    """Lustre without the option `flock`."""

    def no_locks(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    for rows in (balanced[:10], balanced):
        images = open_training_set(rows, pack(balanced, tmp_path, 32), "cpu").images
        assert torch.equal(images, load_training_set(rows, 32, "rgb", "cpu").images)
    assert "lock cannot be locked (Function not implemented): another job may decode the same images" in caplog.text


def test_machines_that_do_not_see_each_others_locks_do_not_mix_up_images(balanced, tmp_path, monkeypatch):
    """While one job decodes, another one decodes other images of the same experiment."""
    decode, decoded = store.decode_image, []

    def decode_while_another_job_does(*arguments):
        decoded.append(1)
        if len(decoded) == 13:  # the images in files are decoded and written, those in the table are not
            open_training_set(balanced[8:], pack(balanced, tmp_path, 32), "cpu")
        return decode(*arguments)

    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    monkeypatch.setattr(store, "decode_image", decode_while_another_job_does)
    for rows in (balanced[:16], balanced[8:], balanced):
        images = open_training_set(rows, pack(balanced, tmp_path, 32), "cpu").images
        assert torch.equal(images, load_training_set(rows, 32, "rgb", "cpu").images)


def test_pixels_that_a_killed_job_left_half_written_go_with_the_next_ones(balanced, tmp_path):
    cache = PixelCache(tmp_path, 32, "rgb")
    cache.folder.mkdir()
    leftover = cache.folder / f".0123.pixels.{platform.node()}-999999999.tmp"
    leftover.write_bytes(b"half")
    SmallImages(cache).images(balanced, "cpu")
    assert sorted(path.suffix for path in cache.folder.iterdir()) == ["", ".pixels"]  # the lock, and the pixels


def test_another_size_or_colour_has_pixels_of_its_own(balanced, tmp_path):
    for size, color in ((32, "rgb"), (16, "rgb"), (32, "grey")):
        images = SmallImages(PixelCache(tmp_path, size, color))
        expected = load_training_set(balanced, size, color, "cpu").images
        assert torch.equal(open_training_set(balanced, images, "cpu").images, expected)


@pytest.mark.parametrize(("threads", "devices", "of_each"), [(16, 2, 8), (8, 1, 8), (3, 2, 1), (1, 4, 1)])
def test_the_processes_of_a_job_share_its_threads(threads, devices, of_each):
    inputs = SimpleNamespace(features=[], packed="images.bin", index="index.parquet")
    settings = {"image_size": 224, "color": "rgb"}
    assert images_of_rule(inputs, Path("results/x"), settings, threads, devices).threads == of_each


def test_a_packed_file_of_other_images_is_named(balanced, tmp_path):
    packed = pack(balanced[:20], tmp_path, 72)
    with pytest.raises(UserError, match=r"index\.parquet: has no image s08; delete it"):
        open_training_set(balanced, packed, "cpu")
