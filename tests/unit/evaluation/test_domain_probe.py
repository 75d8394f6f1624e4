"""The domain probe: chance if the domains look alike, certain if they differ, and independent of the class."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from synaug.evaluation.domain_probe import domain_probe, paired_images
from synaug.images.codec import encode_image
from synaug.networks.classifier import Classifier


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
            "source": np.where(synthetic, "synthetic", "real"),
            "path": str(path),
            "row": range(100),
            "column": "image",
        }
    )


def test_domains_are_separated_only_if_they_differ(tmp_path):
    torch.manual_seed(0)
    model = Classifier("resnet8", 4, ["a", "b"], 16, 1)
    alike, apart = (domain_probe(model, paired_images(manifest(tmp_path / f"{g}", g)), 16, "grey") for g in (0, 60))
    assert alike[1] < 0.5 < alike[2] and abs(alike[0] - 0.5) < 0.15
    assert apart[0] > 0.95 and apart[1] <= apart[0] <= apart[2]


def test_every_class_has_equally_many_images_of_both_domains(tmp_path):
    counts = paired_images(manifest(tmp_path / "x", 0)).groupby(["label", "source"]).size()
    assert counts[0, "real"] == counts[0, "synthetic"] == 32 and counts[1, "real"] == counts[1, "synthetic"] == 8


def test_without_synthetic_images_the_result_is_chance(tmp_path):
    rows = manifest(tmp_path / "x", 0)
    model = Classifier("resnet8", 4, ["a", "b"], 16, 1)
    assert domain_probe(model, paired_images(rows[rows["source"] == "real"]), 16, "grey") == pytest.approx((0.5, 0, 1))
