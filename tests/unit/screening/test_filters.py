"""Filters: thresholds reject images, and one image of a group of near-duplicates is kept."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from synaug.config import Screening
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.errors import UserError
from synaug.screening.filters import apply_filters, read_as_its_class


def scores_of(links: dict[str, str], **columns) -> pd.DataFrame:
    """Scores of images x0 to x4 of one class. links: image -> the earlier image that it is similar to."""
    ids = [f"x{i}" for i in range(5)]
    rows = pd.DataFrame({"image_id": ids, "label": 0, "index": range(5), "fault": None, "contrast": 50.0})
    neighbours = {"hash_nearest_earlier": [links.get(image_id) for image_id in ids], "nearest_earlier_distance": 0.0}
    return rows.assign(**neighbours, nearest_earlier=None, nearest_earlier_similarity=np.nan, **columns)


@pytest.mark.parametrize(
    ("links", "fault", "kept"),
    [
        ({"x1": "x0", "x2": "x1", "x3": "x2"}, [], {"x0", "x4"}),  # a chain is one group
        ({"x1": "x0", "x2": "x0"}, ["x0"], {"x1", "x3", "x4"}),  # the first is damaged, so the second is kept
        ({"x1": "x0"}, ["x0", "x1"], {"x2", "x3", "x4"}),
        ({}, [], {"x0", "x1", "x2", "x3", "x4"}),
    ],
)
def test_one_image_of_a_group_of_near_duplicates_is_kept(links, fault, kept):
    rows = scores_of(links)
    rows.loc[rows["image_id"].isin(fault), "fault"] = "is damaged"
    table = apply_filters(rows, Screening.model_validate({"duplicates": {}}))
    assert set(table.loc[table["accepted"], "image_id"]) == kept


def test_thresholds_reject_images_and_null_rejects_none():
    rows = scores_of({}).assign(
        text_image_score=[0.1, 0.2, 0.3, 0.3, 0.3],
        classifier_confidence=[0.9, 0.9, 0.01, 0.9, 0.9],
        safety_score=[0.0, 0.0, 0.0, 0.9, 0.0],
    )
    blocks = {
        "text_image": {"model": "m", "min_score": 0.2},
        "classifier": {"min_confidence": 0.05},
        "safety": {"model": "m", "unsafe_labels": ["x"], "max_score": 0.5},
    }
    table = apply_filters(rows, Screening.model_validate(blocks))
    assert table["rejected_by"].fillna("").tolist() == ["text_image", "", "classifier", "safety", ""]
    assert table["reason"].iloc[2] == "is not taken for its class (confidence 0.010 < 0.05)"
    broken = rows.assign(safety_score=np.nan)  # not a number is not a safe score
    assert not apply_filters(broken, Screening.model_validate(blocks))["accepted"].any()
    recorded = {name: block | {list(block)[-1]: None} for name, block in blocks.items()}
    assert apply_filters(rows, Screening.model_validate(recorded))["accepted"].all()


def classified(**columns) -> pd.DataFrame:
    """Five images of coats, of which the classifier takes the second for a dress and gives no number for the last."""
    columns = {"classifier_prediction": ["coat", "dress", "coat", "coat", None]} | columns
    confidence = [0.9, 0.2, 0.4, 0.4, np.nan]
    return scores_of({}, label_name="coat", classifier_confidence=confidence, **columns)


def test_images_that_are_taken_for_another_class_can_be_rejected():
    table = apply_filters(classified(), Screening.model_validate({"classifier": {"must_agree": True}}))
    assert table["rejected_by"].fillna("").tolist() == ["", "classifier", "", "", "classifier"]
    assert table["reason"].iloc[1] == "is taken for dress (confidence in its own class 0.200)"
    assert table["reason"].iloc[4] == "has no predicted class (its probabilities are not numbers)"
    assert apply_filters(classified(), Screening.model_validate({"classifier": {}}))["accepted"].all()


def test_images_that_are_taken_for_another_class_can_get_a_lower_weight():
    table = apply_filters(classified(), Screening.model_validate({"classifier": {"disagreement_weight": 0.3}}))
    assert table["accepted"].all()
    assert table["weight"].tolist() == [1, 0.3, 1, 1, 0.3]
    assert apply_filters(classified(), Screening.model_validate({"classifier": {}}))["weight"].eq(1).all()


def test_a_prediction_that_counts_without_a_number_is_no_agreement():
    """A damaged scores file may have a class without a probability."""
    rows = classified(classifier_prediction="coat")
    assert read_as_its_class(rows).tolist() == [True, True, True, True, False]


@pytest.mark.parametrize("block", [{"must_agree": True}, {"disagreement_weight": 0.5}])
def test_scores_of_an_older_version_have_no_predicted_class(block, tmp_path):
    write_manifest("scores", classified().drop(columns="classifier_prediction").assign(sha256="h"), tmp_path / "s")
    table = pq.read_table(tmp_path / "s").drop_columns(["classifier_prediction"])
    pq.write_table(table, tmp_path / "s")
    rows = read_manifest("scores", tmp_path / "s")
    with pytest.raises(UserError, match=r"older version wrote it; delete it and run again"):
        apply_filters(rows, Screening.model_validate({"classifier": block}))
    assert apply_filters(rows, Screening.model_validate({"classifier": {}}))["accepted"].all()


@pytest.mark.parametrize(
    "block",
    [
        {"classifier": {"must_agree": True, "disagreement_weight": 0.5}},
        {"classifier": {"disagreement_weight": 0}},
        {"classifier": {"disagreement_weight": 1.5}},
        {"classifier": {"must_agree": "weight"}},
        {"features": "text_image"},
        {"duplicates": {"min_similarity": 0.9}},
        {"leakage": {"min_similarity": 0.9}, "text_image": {"model": "m"}},
        {"safety": {"model": "m", "unsafe_labels": []}},
        {"min_confidence": 0.1},
    ],
)
def test_settings_that_contradict_each_other_are_errors(block):
    with pytest.raises(ValueError):
        Screening.model_validate(block)


def test_thresholds_and_training_steps_do_not_decide_scores():
    def scoring(**changes):
        block = {"classifier": {}, "duplicates": {}, "leakage": {}, "text_image": {"model": "m"}}
        block["safety"] = {"model": "m", "unsafe_labels": ["x"]}
        return Screening.model_validate({**block, **changes}).scoring()

    plain = scoring()
    assert plain == scoring(
        min_contrast=9.0,
        classifier={"steps": 5, "min_confidence": 0.5, "must_agree": True},
        duplicates={"max_hash_distance": 1, "min_similarity": 0.5},
        leakage={"max_hash_distance": None},
        text_image={"model": "m", "min_score": 0.1},
        safety={"model": "m", "unsafe_labels": ["x"], "max_score": 0.1},
    )
    assert plain == scoring(classifier={"disagreement_weight": 0.5})
    assert plain != scoring(text_image={"model": "n"})
    assert plain == scoring(leakage=None, duplicates=None)  # they compare images, and score none
