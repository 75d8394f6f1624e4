"""The rule build_balanced_manifest: a table that is read, filled and sorted in parts is that of the whole."""

import logging

import numpy as np
import pandas as pd
import pytest

from balance import build_balanced_manifest as rule
from synaug.balance import build_balanced_manifest
from synaug.config import Balance
from synaug.manifests import read_manifest, write_manifest


@pytest.fixture
def paths(cells, tmp_path, monkeypatch):
    """Paths of the manifests real, synthetic and imbalance: three classes, two fills, row groups of 16 rows."""
    monkeypatch.setattr("synaug.manifests.tables.ROW_GROUP", 16)
    counts, rng = {"a": 60, "b": 20, "c": 4}, np.random.default_rng(0)
    real = pd.DataFrame(
        [
            {"image_id": f"{rng.integers(2**60):015x}", "split": split, "label": label, "label_name": name}
            for label, (name, count) in enumerate(counts.items())
            for split in ("train", "test")
            for _ in range(count)
        ]
    ).assign(sha256="r", path="r.png", row=pd.array([None] * 168, "Int64"), usable=True)
    real.loc[real.index % 17 == 0, ["usable", "reason"]] = False, "is empty"
    synthetic = pd.DataFrame(
        [
            {
                "image_id": f"{rng.integers(2**60):015x}",
                "fill": fill,
                "label": label,
                "label_name": name,
                "index": index,
            }
            for fill in ("plain", "strong")
            for label, (name, count) in enumerate(counts.items())
            for index in range(70 - count)
        ]
    )
    score = rng.uniform(0, 1, len(synthetic)).round(1)  # with ties
    rejected = np.where(score < 0.2, "text_image", None)
    synthetic = synthetic.assign(
        sha256="s", path="s.parquet", row=synthetic["index"], column="image", text_image_score=score,
        accepted=score >= 0.2, rejected_by=rejected, reason=rejected, weight=np.where(score < 0.5, 0.5, 1.0),
    )  # fmt: skip
    made = {"real": real, "synthetic": synthetic, "imbalance": cells(counts)}
    for name, rows in made.items():
        write_manifest(name, rows, tmp_path / f"{name}.parquet")
    return [tmp_path / f"{name}.parquet" for name in made]


@pytest.mark.parametrize("settings", [{}, {"amount": 0.5}, {"strategy": "fixed", "target": 66}])
def test_a_table_in_parts_has_the_rows_of_the_whole(paths, tmp_path, caplog, settings):
    caplog.set_level(logging.WARNING)
    rule.main(*paths, "train", Balance(**settings).model_dump(), tmp_path / "parts.parquet")
    in_parts = caplog.messages
    caplog.clear()
    tables = [read_manifest(path.stem, path) for path in paths]
    write_manifest(
        "balanced", build_balanced_manifest(*tables, "train", Balance(**settings)), tmp_path / "whole.parquet"
    )
    assert in_parts == caplog.messages and bool(in_parts) == (settings != {"amount": 0.5})
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    rows = read_manifest("balanced", tmp_path / "parts.parquet")
    assert rows["source"].value_counts()["real"] == 79  # 84 training images less those that are not usable


def test_an_experiment_without_synthetic_images_has_its_real_ones(paths, tmp_path):
    _, synthetic, _ = paths
    write_manifest("synthetic", pd.DataFrame(), synthetic)
    rule.main(*paths, "train", Balance().model_dump(), tmp_path / "balanced.parquet", fill_may_be_empty=True)
    assert set(read_manifest("balanced", tmp_path / "balanced.parquet")["source"]) == {"real"}
