"""The balanced manifest: all usable real images, and the best accepted synthetic images, as many as are wanted."""

import logging

import pandas as pd
import pytest

from synaug import balance
from synaug.balance import (
    best_first,
    build_balanced_manifest,
    images_digest,
    manifests_hash,
    real_training_rows,
    rows_of_recipe,
)
from synaug.config import Balance, Fill
from synaug.manifests import read_manifest, write_manifest
from synaug.manifests.schemas import SCHEMAS
from synaug.runtime.errors import UserError


@pytest.fixture
def imbalance(cells) -> pd.DataFrame:
    """Class b lacks 4 images, c lacks 2."""
    return cells({"a": 6, "b": 2, "c": 4})


@pytest.fixture
def real() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": [f"r{i}" for i in range(6)],
            "split": ["train"] * 4 + ["test"] * 2,
            "label": [0, 1, 2] * 2,
            "label_name": ["a", "b", "c"] * 2,
            "path": [f"{i}.png" for i in range(6)],
            "row": pd.array([None] * 6, "Int64"),
            "sha256": [f"s{i}" for i in range(6)],
            "usable": [i != 0 for i in range(6)],
        }
    )


def synthetic(tmp_path, b: int = 4, c: int = 2, rejected: tuple[str, ...] = (), **scores) -> pd.DataFrame:
    """The manifest `synthetic` with images b0, b1 ... and c0, c1 ... scores: column -> values of b, then of c."""
    rows = pd.DataFrame(
        [(name, index, label) for name, label, count in (("b", 1, b), ("c", 2, c)) for index in range(count)],
        columns=["label_name", "index", "label"],
    )
    rows["image_id"] = rows["label_name"] + rows["index"].astype(str)
    out = rows["image_id"].isin(rejected)
    rows = rows.assign(sha256="h", path="x.parquet", row=0, column="image", accepted=~out, **scores)
    rows["rejected_by"] = [("contrast" if bad else None) for bad in out]
    rows["reason"] = [("is blank" if bad else None) for bad in out]
    write_manifest("synthetic", rows, tmp_path / "synthetic.parquet")
    return read_manifest("synthetic", tmp_path / "synthetic.parquet")


def kept(real, rows, imbalance, **balance) -> list[str]:
    balanced = build_balanced_manifest(real, rows, imbalance, "train", Balance(**balance))
    return sorted(balanced.loc[balanced["source"] == "synthetic", "image_id"])


def test_balanced_manifest_is_usable_training_images_and_accepted_ones(real, imbalance, tmp_path):
    rows = synthetic(tmp_path, rejected=("b1",))
    table = build_balanced_manifest(real, rows, imbalance, "train", Balance())
    write_manifest("balanced", table, tmp_path / "balanced.parquet")
    balanced = read_manifest("balanced", tmp_path / "balanced.parquet")
    assert set(balanced["image_id"]) == {"r1", "r2", "r3", "b0", "b2", "b3", "c0", "c1"}
    assert set(rows_of_recipe(balanced, "real")["image_id"]) == {"r1", "r2", "r3"}
    assert len(rows_of_recipe(balanced, "balanced")) == len(balanced)
    assert (balanced["weight"] == 1).all()


def test_the_real_rows_are_those_of_the_real_manifest(real, imbalance, tmp_path):
    """So a recipe without synthetic images needs no balanced manifest, and its networks stay the same."""
    table = build_balanced_manifest(real, synthetic(tmp_path), imbalance, "train", Balance())
    write_manifest("balanced", table, tmp_path / "balanced.parquet")
    of_balanced = rows_of_recipe(read_manifest("balanced", tmp_path / "balanced.parquet"), "real").reset_index(
        drop=True
    )
    of_real = real_training_rows(real.sort_values(["label", "image_id"]), "train")
    pd.testing.assert_frame_equal(of_real, of_balanced, check_dtype=False)
    assert images_digest(of_real) == images_digest(of_balanced)


def test_the_weight_from_the_screening_is_the_weight_in_training(real, imbalance, tmp_path):
    rows = synthetic(tmp_path, weight=[0.3, 1, 1, 1, 0.5, 1])
    table = build_balanced_manifest(real, rows, imbalance, "train", Balance())
    write_manifest("balanced", table, tmp_path / "balanced.parquet")
    weights = read_manifest("balanced", tmp_path / "balanced.parquet").set_index("image_id")["weight"]
    assert weights[["b0", "b1", "c0"]].tolist() == [0.3, 1, 0.5] and weights[["r1", "r2", "r3"]].eq(1).all()


def test_spare_images_are_kept_in_the_order_of_the_plan_without_scores(real, imbalance, tmp_path):
    rows = synthetic(tmp_path, b=6, c=3, rejected=("b1",))
    assert kept(real, rows, imbalance, oversample=1.5) == ["b0", "b2", "b3", "b4", "c0", "c1"]


def test_the_best_scores_are_kept_and_the_text_image_score_precedes_the_classifier(real, imbalance, tmp_path):
    confidence = [0.1, 0.9, 0.8, 0.7, 0.6, 0.2, 0.5, 0.5, 0.9]
    rows = synthetic(tmp_path, b=6, c=3, classifier_confidence=confidence)
    assert kept(real, rows, imbalance, oversample=1.5) == ["b1", "b2", "b3", "b4", "c0", "c2"]
    rows = rows.assign(text_image_score=[0.9, 0.0, 0.9, 0.9, 0.9, 0.1, 0.1, 0.2, 0.3])
    assert kept(real, rows, imbalance, oversample=1.5) == ["b0", "b2", "b3", "b4", "c1", "c2"]
    of_class = rows[rows["label_name"] == "c"].assign(cell=0)
    assert of_class["image_id"].iloc[best_first(of_class)].tolist() == ["c2", "c1", "c0"]


def test_a_shortfall_is_logged_or_an_error_as_configured(real, imbalance, tmp_path, caplog):
    rows = synthetic(tmp_path, rejected=("b0", "b1", "b2", "b3"))
    with caplog.at_level(logging.WARNING):
        assert kept(real, rows, imbalance) == ["c0", "c1"]
    assert (
        "class 'b': 0 of 4 wanted synthetic images; rejected: 4, most often by contrast (for example, one is blank)"
        in caplog.text
    )
    with pytest.raises(UserError, match=r"^class 'b': 0 of 4 [^\n]*; look at synthetic\.parquet[^\n]*$"):
        kept(real, rows, imbalance, shortfall="error")
    everything = synthetic(tmp_path, rejected=("b0", "b1", "b2", "b3", "c0", "c1"))
    with pytest.raises(UserError, match=r"class 'b'.* \(and 1 more classes\)"):
        kept(real, everything, imbalance)


def test_a_choice_of_recipes_goes_on_without_any_synthetic_image(real, imbalance, tmp_path, caplog):
    rows = synthetic(tmp_path, rejected=("b0", "b1", "b2", "b3", "c0", "c1"))
    with caplog.at_level(logging.WARNING):
        table = build_balanced_manifest(real, rows, imbalance, "train", Balance(), fill_may_be_empty=True)
    assert (table["source"] == "real").all() and len(table) == ((real["split"] == "train") & real["usable"]).sum()
    assert "class 'b': 0 of 4 wanted synthetic images" in caplog.text


def test_a_filled_class_has_no_shortfall(real, imbalance, tmp_path, caplog):
    assert len(kept(real, synthetic(tmp_path), imbalance, shortfall="error")) == 6
    assert not caplog.text


def test_balanced_data_need_no_synthetic_image(real, cells, tmp_path):
    even = cells({"a": 2, "b": 2, "c": 2})
    table = build_balanced_manifest(real, synthetic(tmp_path, 0, 0), even, "train", Balance(shortfall="error"))
    write_manifest("balanced", table, tmp_path / "balanced.parquet")
    assert read_manifest("balanced", tmp_path / "balanced.parquet")["image_id"].tolist() == ["r3", "r1", "r2"]


def test_the_digest_depends_on_the_images_and_not_on_their_location(real, cells, tmp_path, monkeypatch):
    even = cells({"a": 2, "b": 2, "c": 2})
    rows = build_balanced_manifest(real, synthetic(tmp_path, 0, 0), even, "train", Balance())
    digest = images_digest(rows)
    assert images_digest(rows[::-1]) == digest
    assert images_digest(rows.assign(path="elsewhere.parquet", row=5)) == digest
    for column, value in {"sha256": "t", "label": 9, "label_name": "z", "source": "synthetic", "weight": 0.5}.items():
        changed = rows.copy()
        changed[column] = [value, *rows[column].tolist()[1:]]
        assert images_digest(changed) != digest, column
    assert images_digest(rows[:-1]) != digest
    monkeypatch.setattr(balance, "_HASHED_AT_ONCE", 2)
    assert images_digest(rows) == digest


@pytest.mark.parametrize(("data", "fill"), [("balanced", None), ("balanced", Fill(share=0.5)), ("subsampled", None)])
def test_the_hash_of_a_recipe_is_that_of_its_images_from_the_whole_tables(real, imbalance, tmp_path, data, fill):
    rows = synthetic(tmp_path)
    table = build_balanced_manifest(real, rows, imbalance, "train", Balance())
    write_manifest("real", real.assign(group="", width=8, height=8), tmp_path / "real.parquet")
    write_manifest("balanced", table, tmp_path / "balanced.parquet")
    whole = read_manifest("balanced", tmp_path / "balanced.parquet")
    expected = images_digest(rows_of_recipe(whole, data, fill))
    assert manifests_hash(str(tmp_path), data, fill, "train", ("test",), (0,))[0] == expected


def test_all_columns_of_the_schema_are_present(real, imbalance, tmp_path):
    table = build_balanced_manifest(real, synthetic(tmp_path), imbalance, "train", Balance())
    assert set(table.columns) == set(SCHEMAS["balanced"].names)


def fill_rows() -> pd.DataFrame:
    """Two cells: a with 2 real and 8 synthetic images, b with 4 and 6."""
    rows = [
        {"image_id": f"{source}{name}{i}", "label_name": name, "group": "", "source": source, "index": i}
        for name, real, synthetic in (("a", 2, 8), ("b", 4, 6))
        for source, count in (("real", real), ("synthetic", synthetic))
        for i in range(count)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("fill", "counts"),
    [({}, [8, 6]), ({"share": 0.25}, [2, 2]), ({"per_real": 1.0}, [2, 4]), ({"per_real": 1.5, "share": 0.5}, [3, 3])],
)
def test_a_recipe_can_use_a_part_of_the_fill(fill, counts):
    rows = rows_of_recipe(fill_rows(), "balanced", Fill(**fill))
    assert (rows["source"] == "real").sum() == 6
    assert rows[rows["source"] == "synthetic"].groupby("label_name").size().tolist() == counts


def test_a_smaller_fill_is_part_of_a_larger_one():
    small, large = (rows_of_recipe(fill_rows(), "balanced", Fill(share=share)) for share in (0.25, 0.5))
    assert set(small["image_id"]) < set(large["image_id"])
