"""The domain probe: chance if the domains look alike, certain if they differ, and independent of class and group."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from evaluation import probe_domains
from synaug.evaluation.domain_probe import domain_probe, paired_images
from synaug.images import store
from synaug.images.codec import encode_image
from synaug.manifests import read_manifest, write_manifest
from synaug.networks.classifier import Classifier
from synaug.training.data import DecodedImages, SmallImages, images_of_experiment


def manifest(path, gap: int) -> pd.DataFrame:
    """60 real and 40 synthetic images of two classes, noise; synthetic ones are brighter by `gap`."""
    rng = np.random.default_rng(0)
    synthetic = np.arange(100) >= 60
    pixels = rng.integers(0, 100, (100, 16, 16, 1)) + np.where(synthetic, gap, 0)[:, None, None, None]
    pq.write_table(pa.table({"image": [{"bytes": encode_image(image.astype(np.uint8))} for image in pixels]}), path)
    return pd.DataFrame(
        {
            "image_id": [f"{i:03}" for i in range(100)],
            "label": (np.arange(100) % 5 == 0).astype(int),
            "group": "",
            "source": np.where(synthetic, "synthetic", "real"),
            "path": str(path),
            "row": range(100),
            "column": "image",
        }
    )


def probe(model, rows: pd.DataFrame) -> tuple[float, float, float]:
    return domain_probe(model, rows, DecodedImages(16, "grey").iterate(rows))


def test_domains_are_separated_only_if_they_differ(tmp_path):
    torch.manual_seed(0)
    model = Classifier("resnet8", 4, ["a", "b"], 16, 1)
    alike, apart = (probe(model, paired_images(manifest(tmp_path / f"{g}", g))) for g in (0, 60))
    assert alike[1] < 0.5 < alike[2] and abs(alike[0] - 0.5) < 0.15
    assert apart[0] > 0.95 and apart[1] <= apart[0] <= apart[2]


def test_every_class_has_equally_many_images_of_both_domains(tmp_path):
    counts = paired_images(manifest(tmp_path / "x", 0)).groupby(["label", "source"]).size()
    assert counts[0, "real"] == counts[0, "synthetic"] == 32 and counts[1, "real"] == counts[1, "synthetic"] == 8


def test_without_synthetic_images_the_result_is_chance(tmp_path):
    rows = manifest(tmp_path / "x", 0)
    model = Classifier("resnet8", 4, ["a", "b"], 16, 1)
    assert probe(model, paired_images(rows[rows["source"] == "real"])) == pytest.approx((0.5, 0, 1))


def test_every_group_of_a_class_has_equally_many_images_of_both_domains():
    """Real images are mostly red, synthetic ones equally often red and blue: the colour must not predict the domain."""
    cells = [("real", "red", 30), ("real", "blue", 5), ("synthetic", "red", 20), ("synthetic", "blue", 20)]
    rows = pd.DataFrame([cell[:2] for cell in cells for _ in range(cell[2])], columns=["source", "group"])
    rows = rows.assign(label=0, image_id=[f"{i:03}" for i in range(len(rows))])
    counts = paired_images(rows).groupby(["group", "source"]).size()
    assert counts["red"].tolist() == [20, 20] and counts["blue"].tolist() == [5, 5]


class Memory:
    """A network whose features know the domain of its training images, and nothing of other images."""

    head = SimpleNamespace(in_features=1, weight=torch.zeros(1))

    def __init__(self, images: np.ndarray, synthetic: np.ndarray):
        self.domain = {image.tobytes(): float(domain) for image, domain in zip(images, synthetic, strict=True)}
        self.rng = np.random.default_rng(1)

    def eval(self):
        return self

    def to(self, device: str):
        return self

    def features(self, images: torch.Tensor) -> torch.Tensor:
        values = [self.domain.get(image.numpy().tobytes(), self.rng.random()) for image in images]
        return torch.tensor(values)[:, None]


def test_a_network_that_knows_its_training_images_by_heart_is_not_taken_for_a_domain_gap(tmp_path, monkeypatch):
    """200 training images, 100 test images and 100 probe images, all noise: no image shows its domain."""
    pixels = np.random.default_rng(0).integers(0, 256, (400, 16, 16, 1), np.uint8)
    ids = [f"{i:03}" for i in range(400)]
    images = [{"bytes": encode_image(image)} for image in pixels]
    hashes = [hashlib.sha256(image["bytes"]).hexdigest() for image in images]
    pq.write_table(pa.table({"image": images}), tmp_path / "images.parquet")
    rows = pd.DataFrame(
        {"image_id": ids, "label": np.arange(400) % 2, "sha256": hashes, "usable": True, "row": range(400)}
    )
    rows = rows.assign(
        label_name=np.where(rows["label"], "b", "a"), column="image", path=str(tmp_path / "images.parquet")
    )
    rows["split"] = ["train"] * 200 + ["test"] * 200
    write_manifest("real", rows[:300], tmp_path / "real.parquet")
    probe_images = {"image": images[300:], "image_id": ids[300:], "group": [""] * 100, "sha256": hashes[300:]}
    probe_images["label_name"] = rows["label_name"][300:].tolist()
    pq.write_table(pa.table(probe_images), tmp_path / "probe_images.parquet")
    synthetic = np.arange(200) % 4 > 1  # half of each class
    network = Memory(pixels[:200], synthetic)
    training = rows[:200].assign(source=np.where(synthetic, "synthetic", "real"), group="")
    assert probe(network, paired_images(training))[0] > 0.99

    monkeypatch.setattr(probe_domains, "load_classifier", lambda path: network)
    decoded, decode = [], store.decode_image
    monkeypatch.setattr(store, "decode_image", lambda *arguments: decoded.append(1) or decode(*arguments))
    paths = [str(tmp_path / name) for name in ("probe_images.parquet", "real.parquet")]
    networks = [("train", "real", 0), ("train", "real", 1)]
    shared = images_of_experiment(tmp_path, 16, "grey")
    assert isinstance(shared, SmallImages)
    for images_of in (shared, DecodedImages(16, "grey")):
        network.rng = np.random.default_rng(1)
        probe_domains.main(["m"] * 2, networks, *paths, images_of, "test", 1, str(tmp_path / f"{len(decoded)}.parquet"))
    assert len(decoded) == 200 + 2 * 200  # with the cache of the experiment once, else once for each network
    measured = read_manifest("metrics", tmp_path / "0.parquet")
    assert measured.equals(read_manifest("metrics", tmp_path / "200.parquet"))
    measured = measured.iloc[0]
    assert measured["metric"] == "domain_probe"
    assert abs(measured["value"] - 0.5) < 0.1 and measured["low"] < 0.5 < measured["high"]
