"""The balanced manifest with several fills and a gate, and the part of it that a recipe trains on."""

import logging

import pandas as pd
import pytest

from synaug.balance import build_balanced_manifest, rows_of_recipe
from synaug.config import Balance, Fill
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.errors import UserError
from synaug.screening.quality import measure_quality

COUNTS = {"a": 6, "b": 2, "c": 4}  # class b lacks 4 images, c lacks 2


def synthetic() -> pd.DataFrame:
    """The manifest `synthetic` of two fills. Its ids are in the reverse order of the plan, as hashes can be."""
    rows = [
        {"image_id": f"{fill}-{name}{9 - index}", "fill": fill, "label_name": name, "label": label, "index": index}
        for fill in ("plain", "strong")
        for name, label, count in (("b", 1, 4), ("c", 2, 2))
        for index in range(count)
    ]
    columns = {"group": "", "sha256": "h", "path": "x.parquet", "row": 0, "column": "image", "accepted": True}
    columns |= {"weight": 1.0, "rejected_by": None, "reason": None}
    scores = {"text_image_score": None, "classifier_confidence": None, "classifier_prediction": None}
    return pd.DataFrame(rows).assign(**columns, **scores)


def gate_of(**shares: float) -> pd.DataFrame:
    """The columns of the manifest `gate` that decide. shares: <fill>_<class> -> share."""
    rows = [(*key.split("_"), share) for key, share in shares.items()]
    return pd.DataFrame(rows, columns=["fill", "label_name", "share"])


@pytest.fixture
def balanced(cells, tmp_path):
    """A function: the balanced manifest of both fills, as it is read."""
    real = pd.DataFrame(
        [
            {"image_id": f"r{name}{i}", "split": "train", "label": label, "label_name": name, "usable": True}
            for label, (name, count) in enumerate(COUNTS.items())
            for i in range(count)
        ]
    ).assign(sha256="r", path="r.png", row=pd.array([None] * 12, "Int64"))

    def balanced(rows=None, **options) -> pd.DataFrame:
        rows = synthetic() if rows is None else rows
        table = build_balanced_manifest(real, rows, cells(COUNTS), "train", Balance(), **options)
        write_manifest("balanced", table, tmp_path / "balanced.parquet")
        return read_manifest("balanced", tmp_path / "balanced.parquet")

    return balanced


def test_each_fill_completes_the_classes_and_a_recipe_trains_on_the_one_that_it_names(balanced):
    table = balanced()
    assert table.groupby(["source", "fill"]).size().to_dict() == {
        ("real", ""): 12,
        ("synthetic", "plain"): 6,
        ("synthetic", "strong"): 6,
    }
    for fill in ("plain", "strong"):
        used = rows_of_recipe(table, "balanced", Fill(name=fill))
        assert used.groupby("label_name").size().to_dict() == {"a": 6, "b": 6, "c": 6}
        assert set(used["fill"]) == {"", fill}
    assert set(rows_of_recipe(table, "real")["source"]) == {"real"}


def test_a_part_of_a_fill_is_its_first_images_in_the_plan(balanced):
    used = rows_of_recipe(balanced(), "balanced", Fill(name="strong", share=0.5))
    chosen = used.loc[used["source"] == "synthetic", "image_id"]
    assert sorted(chosen) == ["strong-b8", "strong-b9", "strong-c9"]


def test_a_class_that_the_gate_leaves_out_keeps_its_real_images_only(balanced, caplog):
    gate = gate_of(plain_b=0.0, plain_c=1.0, strong_b=0.6, strong_c=1.0)
    with caplog.at_level(logging.WARNING):
        table = balanced(gate=gate)
    sizes = table[table["source"] == "synthetic"].groupby(["fill", "label_name"]).size().to_dict()
    assert sizes == {("plain", "c"): 2, ("strong", "b"): 3, ("strong", "c"): 2}
    assert (table["source"] == "real").sum() == 12
    assert not caplog.text  # nothing is missing


def test_images_that_are_missing_are_reported_with_their_fill(balanced, caplog):
    rows = synthetic()
    rows.loc[rows["image_id"] == "strong-c8", ["accepted", "rejected_by", "reason"]] = [False, "contrast", "is blank"]
    with caplog.at_level(logging.WARNING):
        balanced(rows)
    assert "class 'c', fill 'strong': 1 of 2 wanted synthetic images; rejected: 1" in caplog.text


def test_a_fill_of_which_no_class_gets_images_is_an_error_unless_a_recipe_is_chosen(balanced):
    gate = gate_of(plain_b=0.0, plain_c=0.0, strong_b=1.0, strong_c=1.0)
    message = r"^screening\.classifier\.gate: no class gets synthetic images of fill 'plain'"
    for rows in (synthetic(), synthetic().query("fill == 'strong'")):  # the latter after a pilot
        with pytest.raises(UserError, match=message):
            balanced(rows, gate=gate)
        kept = balanced(rows, gate=gate, fill_may_be_empty=True)
        assert set(kept["fill"]) == {"", "strong"}


def test_a_fill_of_which_every_image_is_rejected_is_an_error_unless_a_recipe_is_chosen(balanced):
    rows = synthetic()
    of_plain = rows["fill"] == "plain"
    rows.loc[of_plain, "accepted"] = False
    rows.loc[of_plain, ["rejected_by", "reason"]] = ["contrast", "is blank"]
    with pytest.raises(UserError, match=r"^class 'b', fill 'plain': 0 of 4 wanted"):
        balanced(rows)
    assert set(balanced(rows, fill_may_be_empty=True)["fill"]) == {"", "strong"}


def test_the_quality_of_every_fill_is_measured(balanced, cells):
    gate = gate_of(plain_b=0.0, plain_c=1.0, strong_b=0.5, strong_c=1.0)
    tables = [lambda columns: [synthetic()], lambda columns: [balanced(gate=gate)]]
    table = measure_quality(*tables, cells(COUNTS), Balance(), gate=gate)
    values = table.set_index(["fill", "label_name", "metric"])["value"]
    assert values["plain", "b", "planned"] == 4 and values["plain", "b", "wanted"] == 0
    assert values["plain", "", "kept"] == 2 and values["strong", "", "kept"] == 4
    assert values["plain", "", "shortfall"] == values["strong", "", "shortfall"] == 0


def test_fills_of_which_the_gate_leaves_nothing_are_known_and_lack_nothing(balanced, cells, caplog):
    """After a pilot nothing of them is planned, so no image has their name."""
    gate = gate_of(plain_b=0.0, plain_c=0.0, strong_b=0.0, strong_c=0.0)
    with caplog.at_level(logging.WARNING):
        table = balanced(synthetic()[:0], gate=gate, fill_may_be_empty=True)
    assert set(table["source"]) == {"real"} and not caplog.text
    tables = [lambda columns: [synthetic()[:0]], lambda columns: [table]]
    quality = measure_quality(*tables, cells(COUNTS), Balance(), gate=gate)
    wanted = quality[quality["metric"] == "wanted"]
    assert set(wanted["fill"]) == {"plain", "strong"} and not wanted["value"].any()
