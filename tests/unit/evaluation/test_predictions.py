"""Predictions: one row per image, in the order of the manifest, and read back as they were written."""

import numpy as np
import pandas as pd
import pytest
import torch

from synaug.evaluation.predictions import compute_features, predict
from synaug.images.store import iterate_pixels
from synaug.manifests import read_manifest, write_manifest
from synaug.networks.classifier import Classifier


def test_predictions_follow_the_manifest_and_can_be_read_back(tmp_path, pngs):
    classes = ["dark", "middle", "light"]
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(pngs[number])
    manifest = pd.DataFrame(
        {
            "image_id": [f"{n:02d}" for n in range(9)],
            "label": [0, 1, 2] * 3,
            "label_name": classes * 3,
            "split": "test",
            "group": ["day", "night", "day"] * 3,
            "path": [str(tmp_path / f"{n}.png") for n in range(9)],
            "row": pd.array([None] * 9, "Int64"),
        }
    )
    torch.manual_seed(0)
    model = Classifier("resnet8", 4, classes, 12, 1)
    shuffled = manifest.sample(frac=1, random_state=0)
    rows = predict(model, shuffled, iterate_pixels(shuffled, 12, "grey"))
    assert rows["image_id"].tolist() == shuffled["image_id"].tolist()
    write_manifest("predictions", rows, tmp_path / "predictions.parquet")
    predictions = read_manifest("predictions", tmp_path / "predictions.parquet")
    assert predictions.set_index("image_id")["group"].to_dict() == manifest.set_index("image_id")["group"].to_dict()
    assert [np.argmax(p) for p in predictions["probabilities"]] == predictions["predicted"].tolist()


@pytest.mark.parametrize(("side", "at_once"), [(12, 256), (128, 64)])
def test_features_are_computed_for_a_bounded_number_of_pixels_at_once(side, at_once, monkeypatch):
    torch.manual_seed(0)
    model = Classifier("resnet8", 4, ["dark", "light"], side, 1)
    pixels = np.random.default_rng(0).integers(0, 256, (300, side, side, 1), np.uint8)
    sizes, compute = [], Classifier.features
    monkeypatch.setattr(Classifier, "features", lambda self, images: sizes.append(len(images)) or compute(self, images))
    positions = np.arange(300)[::-1]
    features = compute_features(model, 300, [(positions, pixels)])
    assert max(sizes) == at_once and sum(sizes) == 300
    with torch.inference_mode():
        expected = compute(model.eval(), torch.from_numpy(pixels[:20]).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(features[positions[:20]], expected, rtol=1e-4, atol=1e-5)
