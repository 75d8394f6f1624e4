"""Large images: packed into one file, decoded ahead, the same for the same seed, and gone on with exactly."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from synaug.config import CutMix, RandAugment, Stage1, Stage2
from synaug.images.codec import decode_image
from synaug.images.store import load_pixels
from synaug.runtime.errors import UserError
from synaug.training import loop
from synaug.training.augmentation import crop, draw_crops
from synaug.training.data import load_images, load_training_set, stream_training_set
from synaug.training.loop import Checkpoint
from synaug.training.stage1 import train_stage1
from synaug.training.stage2 import finetune_stage2
from synaug.training.stream import StreamedImages, decode_crop, pack_images

CLASSES = ["dark", "light"]
SETTINGS = Stage1(width=4, steps=9, batch_size=8, crop_area=0.3, learning_rate=0.02)


def encoded(value: int, kind: str = "JPEG", size=(96, 80)) -> bytes:
    noise = np.random.default_rng(value).integers(0, 60, (size[1], size[0], 3))
    buffer = io.BytesIO()
    Image.fromarray((noise + value).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def balanced(tmp_path) -> pd.DataFrame:
    """24 images, half of them files and half of them in a table, as the manifest `balanced` points at them."""
    rows = []
    for i in range(12):
        path = tmp_path / f"{i}.jpg"
        path.write_bytes(encoded(10 + 2 * i))
        rows.append({"image_id": f"r{i:02}", "label": i % 2, "source": "real", "path": str(path), "row": None})
    images = [{"bytes": encoded(100 + 2 * i, "PNG"), "path": f"{i}.png"} for i in range(12)]
    pq.write_table(pa.table({"image": images}), tmp_path / "shard.parquet")
    where = {"source": "synthetic", "path": str(tmp_path / "shard.parquet")}
    rows += [{"image_id": f"s{i:02}", "label": i % 2, "row": i, **where} for i in range(12)]
    table = pd.DataFrame(rows).assign(column="image", weight=1.0, sha256="")
    return table.assign(label_name=[CLASSES[i] for i in table["label"]]).astype({"row": "Int64"})


@pytest.fixture
def streamed(balanced, tmp_path):
    packed = pack_images(balanced, tmp_path / "images.bin")
    return stream_training_set(packed, str(tmp_path / "images.bin"), 64, "rgb", "cpu", 2)


def test_streamed_images_are_those_of_the_manifest_wherever_they_lie(balanced, streamed):
    decoded = load_training_set(balanced, 64, "rgb", "cpu")
    positions = torch.randperm(24)
    assert torch.equal(streamed.images[positions], decoded.images[positions])
    assert torch.equal(streamed.labels, decoded.labels)
    assert torch.equal(streamed.synthetic, decoded.synthetic)


def test_the_same_seed_gives_the_same_network_and_another_seed_another(streamed):
    weights = [train_stage1(streamed, CLASSES, SETTINGS, seed)[0].state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["head.weight"], weights[2]["head.weight"])


def test_an_interrupted_training_ends_in_the_same_weights(streamed, tmp_path, monkeypatch):
    settings = SETTINGS.model_copy(update={"randaugment": RandAugment(), "cutmix": CutMix(alpha=1.0)})
    whole = train_stage1(streamed, CLASSES, settings, 0)[0].state_dict()
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
        train_stage1(streamed, CLASSES, settings, 0, checkpoint)
    resumed = train_stage1(streamed, CLASSES, settings, 0, checkpoint)[0].state_dict()
    assert saves[:2] == [2, 4]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_last_layer_can_be_tuned_on_streamed_images(balanced, tmp_path):
    packed = pack_images(balanced, tmp_path / "images.bin")
    real = stream_training_set(packed[packed["source"] == "real"], str(tmp_path / "images.bin"), 64, "rgb", "cpu", 1)
    model = train_stage1(real, CLASSES, SETTINGS, 0)[0]
    settings = Stage2(steps=3, images_per_class=2)
    tuned, _ = finetune_stage2(model, real, settings, SETTINGS, 0, np.array([6, 6]))
    assert not torch.equal(tuned.head.weight, model.head.weight)
    assert torch.equal(tuned.body[0].weight, model.body[0].weight)


def test_a_crop_of_everything_is_the_whole_image_and_half_of_it_is_that_half():
    data = encoded(40, "PNG", (64, 64))
    whole = decode_crop(data, np.array([0.0, 0, 1, 1]), 64, "rgb")
    assert np.array_equal(whole, decode_image(data, 64, "rgb"))
    right = decode_crop(data, np.array([0.5, 0, 0.5, 1]), 64, "rgb")
    assert abs(right.mean() - whole[:, 32:].mean()) < 1


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same():
    picture = np.zeros((800, 800, 3), np.uint8)
    picture[:, 400:] = 200
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", exif=_turned())
    shrunk = decode_crop(buffer.getvalue(), np.array([0.0, 0, 1, 1]), 64, "grey")[..., 0]
    assert shrunk[:20].mean() < 10 and shrunk[-20:].mean() > 190  # turned upright: what was right is below


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    return exif.tobytes()


def test_crops_lie_inside_and_have_the_areas_that_were_asked_for():
    crops = draw_crops(2000, 0.2, np.random.default_rng(0))
    left, top, width, height = crops.T
    assert (crops >= 0).all() and (left + width <= 1 + 1e-9).all() and (top + height <= 1 + 1e-9).all()
    assert (width * height).min() > 0.14 and 0.5 < (width * height).mean() < 0.62


def test_a_crop_on_the_device_shows_what_it_cuts_out():
    images = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    images[:, :, :, 16:] = 200
    cut = crop(images, np.array([[0.0, 0, 0.5, 1], [0.5, 0, 0.5, 1]]))
    assert cut[0, :, :, :30].max() == 0 and cut[1, :, :, 2:].min() == 200
    assert torch.equal(crop(images, np.array([[0.0, 0, 1, 1]] * 2)), images)


def test_an_image_that_is_gone_stops_the_packing_and_leaves_no_file(balanced, tmp_path):
    (tmp_path / "3.jpg").unlink()
    with pytest.raises(UserError, match=r"3\.jpg"):
        pack_images(balanced, tmp_path / "images.bin")
    assert not (tmp_path / "images.bin").exists()
    with pytest.raises(UserError, match=r"3\.jpg"):
        load_pixels(balanced, 64, "rgb")


def test_a_damaged_packed_image_is_one_line(tmp_path):
    (tmp_path / "images.bin").write_bytes(b"no image")
    images = StreamedImages(str(tmp_path / "images.bin"), np.array([0]), np.array([8]), 64, "rgb", "cpu", 1)
    with pytest.raises(UserError, match="cannot be decoded"):
        images[torch.tensor([0])]


def test_the_script_loads_either_form(balanced, tmp_path):
    from synaug.manifests import write_manifest

    write_manifest("packed", pack_images(balanced, tmp_path / "images.bin"), tmp_path / "index.parquet")
    write_manifest("balanced", balanced, tmp_path / "balanced.parquet")
    form = {"image_size": 64, "color": "rgb"}
    decoded = load_images(tmp_path / "balanced.parquet", None, "real", form, 1, "cpu")
    packed = load_images(tmp_path / "index.parquet", str(tmp_path / "images.bin"), "real", form, 1, "cpu")
    assert torch.equal(decoded.images, packed.images[torch.arange(12)])
