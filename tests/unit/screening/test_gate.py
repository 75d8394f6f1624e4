"""The gate: how much of a fill a class gets, by how often the classifier recognises its images."""

import logging

import numpy as np
import pandas as pd
import pytest

from screening import measure_gate as script
from synaug.manifests import read_manifest, write_manifest
from synaug.manifests.schemas import SCHEMAS
from synaug.screening import gate as module


def measure_gate(synthetic: pd.DataFrame, real: pd.DataFrame, validation_split: str) -> pd.DataFrame:
    """`measure_gate` of a whole table."""
    return module.measure_gate([synthetic], real, validation_split)


def images(counts: dict[str, tuple[int, int]], fill: str = "") -> pd.DataFrame:
    """Rows of classes: name -> how many of how many images are recognised."""
    rows = []
    for label, (name, (recognised, count)) in enumerate(counts.items()):
        prediction = [name] * recognised + ["other"] * (count - recognised)
        rows += [{"label": label, "label_name": name, "classifier_prediction": word} for word in prediction]
    return pd.DataFrame(rows).assign(fill=fill, classifier_confidence=0.5, split="val")


def shares(synthetic: pd.DataFrame, real: pd.DataFrame) -> dict:
    gate = measure_gate(synthetic, real, "val")
    return dict(zip(zip(gate["fill"], gate["label_name"], strict=True), gate["share"], strict=True))


def test_a_class_gets_what_is_recognised_in_comparison_with_real_images():
    many = 10_000
    real = images({"a": (8000, many), "b": (8000, many), "c": (5000, many)})
    gate = shares(images({"a": (8500, many), "b": (6000, many), "c": (1000, many)}), real)
    assert gate["", "a"] == pytest.approx(1, abs=0.01)  # no more than the whole fill
    assert gate["", "b"] == pytest.approx(0.75, abs=0.01)
    assert gate["", "c"] == 0  # 0.2 is too little


def test_a_class_with_few_validation_images_gets_what_all_classes_get():
    real = images({"a": (900, 1000), "rare": (1, 2)})
    gate = measure_gate(images({"a": (900, 1000), "rare": (100, 1000)}), real, "val").set_index("label_name")
    pooled = (0.9 + 0.1) / (0.9 + 0.5)
    assert gate.loc["rare", "pooled_ratio"] == pytest.approx(pooled)
    assert gate.loc["rare", "ratio"] == pytest.approx((2 * 0.2 + 10 * pooled) / 12)
    few_synthetic = measure_gate(
        images({"a": (900, 1000), "rare": (0, 1)}), images({"a": (9, 10), "rare": (9, 10)}), "val"
    )
    assert few_synthetic.set_index("label_name").loc["rare", "ratio"] > 0.4  # one image proves little, too


@pytest.mark.parametrize("rare", [(0, 2), (0, 0)])
def test_a_class_that_the_classifier_never_recognises_says_nothing_of_its_fill(rare):
    real = images({"a": (900, 1000), "rare": rare})
    gate = measure_gate(images({"a": (900, 1000), "rare": (900, 1000)}), real, "val").set_index("label_name")
    assert gate.loc["rare", "share"] == gate.loc["rare", "pooled_ratio"] == 1


def test_each_fill_is_judged_alone_and_the_table_says_why(tmp_path, caplog):
    real = images({"a": (90, 100), "b": (80, 100)})
    good, bad = images({"a": (90, 100), "b": (80, 100)}, "good"), images({"a": (20, 100), "b": (70, 100)}, "bad")
    with caplog.at_level(logging.INFO):
        gate = measure_gate(pd.concat([good, bad]), real, "val")
    by_class = gate.set_index(["fill", "label_name"])
    assert by_class.loc["good", "share"].tolist() == [1, 1]
    assert by_class.loc[("bad", "a"), "share"] == 0 and 0.5 < by_class.loc[("bad", "b"), "share"] < 1
    reason = by_class.loc[("bad", "a"), "reason"]
    assert reason.startswith(
        "the classifier recognises 20% of 100 synthetic images, 90% of 100 validation images: ratio 0."
    )
    assert reason.endswith("gets no synthetic images, since it is below 0.5")
    assert "class 'a', fill 'bad': the classifier" in caplog.text and "fill 'good'" not in caplog.text
    write_manifest("gate", gate, tmp_path / "gate.parquet")


def test_images_that_cannot_be_read_are_not_recognised():
    synthetic = images({"a": (10_000, 10_000)})
    synthetic.loc[:4999, ["classifier_prediction", "classifier_confidence"]] = [None, np.nan]
    assert shares(synthetic, images({"a": (10_000, 10_000)}))["", "a"] == pytest.approx(0.5, abs=0.01)


def test_a_classifier_that_recognises_no_validation_image_lets_no_synthetic_image_through(tmp_path, caplog):
    """The run goes on with real images if recipes are chosen; otherwise balance.py refuses the empty fill."""
    real = pd.concat([images({"a": (0, 9), "b": (0, 9)}), images({"a": (9, 9)}).assign(split="test")])
    synthetic = pd.concat([images({"a": (9, 9), "b": (0, 9)}, fill) for fill in ("one", "two")])
    gate = measure_gate(synthetic, real, "val")
    assert gate["share"].tolist() == gate["ratio"].tolist() == [0, 0, 0, 0]
    assert gate["agreement"].tolist() == [1, 0, 1, 0] and gate["recall"].tolist() == [0, 0, 0, 0]
    assert set(gate["reason"]) == {
        "the classifier recognises no image of split 'val', so that it cannot judge the fill; gets no synthetic images"
    }
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "raise screening.classifier.steps" in warning.getMessage()
    write_manifest("gate", gate, tmp_path / "gate.parquet")
    nothing = measure_gate(images({"a": (9, 9)}).head(0), real, "val")
    assert nothing.empty


def test_no_planned_images_need_no_gate(tmp_path):
    nothing = images({"a": (1, 1)}).head(0)
    write_manifest("gate", measure_gate(nothing, images({"a": (1, 1)}), "val"), tmp_path / "gate.parquet")


def test_the_gate_of_many_shards_is_that_of_all_images_together(tmp_path):
    """Shards hold images of several classes, and their scores are in another order than the plan."""
    rows = pd.concat([images({"a": (9, 10), "b": (7, 20)}, fill) for fill in ("one", "two")], ignore_index=True)
    rng = np.random.default_rng(0)
    rows = rows.assign(image_id=[f"{i:024x}" for i in rng.permutation(len(rows))], shard=rng.choice(list("xyz"), 60))
    rows = rows.assign(group="", index=range(60), sha256="h")
    numbers = dict.fromkeys(("seed", "steps", "size", "stored_size", "guidance", "sampler_version"), 1)
    texts = {name: "x" for name in SCHEMAS["plan"].names if name not in {*rows, *numbers, "source_image", "strength"}}
    plan = rows.assign(**numbers, **texts | {"original_size": 1, "truncate": False})
    columns = [name for name in SCHEMAS["plan"].names if name in plan]
    write_manifest("plan", plan[columns], tmp_path / "plan.parquet")
    scores = [name for name in SCHEMAS["shard_scores"].names if name in rows]
    for shard, of_shard in rows.groupby("shard"):
        write_manifest("shard_scores", of_shard[scores], tmp_path / f"{shard}.parquet")
    real = images({"a": (90, 100), "b": (80, 100)}).assign(image_id=[f"r{i}" for i in range(200)])
    real_scores = [name for name in SCHEMAS["real_scores"].names if name in real]
    write_manifest("real_scores", real[real_scores], tmp_path / "real.parquet")
    files = [str(tmp_path / f"{name}.parquet") for name in "zxy"]
    script.main(str(tmp_path / "plan.parquet"), files, str(tmp_path / "real.parquet"), "val", tmp_path / "gate.parquet")
    write_manifest("gate", measure_gate(rows, real, "val"), tmp_path / "whole.parquet")
    assert (tmp_path / "gate.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert read_manifest("gate", tmp_path / "gate.parquet")["images_synthetic"].tolist() == [10, 20, 10, 20]
