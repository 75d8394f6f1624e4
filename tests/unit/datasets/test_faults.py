"""Faults in the data: they are found in real images, listed in real.parquet, and dropped only if the config says so."""

import io
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError

from dataset import index_dataset
from synaug.config import Dataset
from synaug.datasets import fault_search
from synaug.datasets.fault_search import fault_columns
from synaug.datasets.faults import drop_faults, faults_of
from synaug.manifests import read_manifest
from synaug.runtime.errors import UserError

COLUMNS = {"label_quality", "suggested_label", "outlier_score", "duplicate_of", "leak_of"}
CLASSES = ["Bag", "Sneaker", "T-shirt/top", "Trouser"]
# What is wrong with some of the images, by their number.
WRONG = {3: "Trouser", 40: "Bag", 75: "Bag", 100: "Sneaker", 21: "Trouser"}
NOISE, COPIED, LEAKED = 30, 50, 60


@pytest.fixture(scope="module")
def fashion(repository) -> pd.DataFrame:
    """Real images, 30 of each class of CLASSES: label_name, png (bytes)."""
    table = pq.read_table(repository / "resources/fashion_mnist_lt/test.parquet", columns=["image", "label_name"])
    rows = pd.DataFrame({"png": table.column("image").combine_chunks().field("bytes").to_pylist()})
    rows = rows.assign(label_name=table.column("label_name").to_pandas().astype("str"))
    return pd.concat([rows[rows["label_name"] == name].head(30) for name in CLASSES], ignore_index=True)


@pytest.fixture(scope="module")
def clothes(tmp_path_factory, fashion, encode) -> Path:
    """Training images with wrong labels, one of noise, and a copy (JPEG) of one in each split."""
    folder = tmp_path_factory.mktemp("faults")
    images, names = fashion["png"].tolist(), fashion["label_name"].tolist()
    splits = ["test" if number % 10 >= 8 else "train" for number in range(len(images))]
    for number, name in WRONG.items():
        names[number] = name
    images[NOISE] = encode(np.random.default_rng(0).integers(0, 256, (28, 28)))
    copies = [encode(Image.open(io.BytesIO(images[number])), "JPEG", quality=90) for number in (COPIED, LEAKED)]
    images, names = [*images, *copies], [*names, names[COPIED], names[LEAKED]]
    table = {"image": [{"bytes": data, "path": None} for data in images], "label": names}
    pq.write_table(pa.table({**table, "split": [*splits, "train", "test"]}), folder / "clothes.parquet")
    return folder / "clothes.parquet"


def indexed(table: Path, **faults) -> pd.DataFrame:
    """real.parquet, with the rows in the order of the table."""
    dataset = Dataset(source="table", path=str(table), image_size=28, color="grey", faults=faults)
    real = table.parents[1] / table.stem / "results" / "clothes" / "real.parquet"
    real.parent.mkdir(parents=True, exist_ok=True)
    index_dataset.main(dataset.model_dump(), str(real))
    return read_manifest("real", real).sort_values("row", ignore_index=True)


@pytest.fixture(scope="module")
def found(clothes) -> pd.DataFrame:
    return indexed(clothes, find=True)


def test_wrong_labels_of_real_images_are_found_with_the_right_one(found, fashion):
    issues = found[found["suggested_label"].notna() & (found["split"] == "train")]
    assert set(found[found["split"] == "train"].nsmallest(len(WRONG), "label_quality").index) == set(WRONG)
    assert len(issues) >= 3 and set(issues.index) <= set(WRONG)  # of so few images not all are sure
    assert (issues["suggested_label"] == fashion["label_name"].reindex(issues.index)).all()


def test_an_image_of_noise_is_the_worst_outlier(found):
    assert found["outlier_score"].idxmax() == NOISE and faults_of(found).loc[NOISE, "outliers"]
    assert faults_of(found)["outliers"].sum() <= 6


def test_copies_are_found_within_a_split_and_across(found):
    copy, test_copy = len(found) - 2, len(found) - 1
    pair = found.loc[[COPIED, copy]]
    assert pair["duplicate_of"].notna().sum() == 1
    assert set(pair["duplicate_of"].dropna()) < set(pair["image_id"])
    assert found.loc[LEAKED, "leak_of"] == found.loc[test_copy, "image_id"]
    assert found.loc[found["split"] == "test", "leak_of"].isna().all()


def test_nothing_is_dropped_unless_the_config_says_so(clothes, found, caplog):
    assert found["usable"].all()
    dataset = Dataset(
        **{"source": "table", "path": str(clothes), "image_size": 28},
        faults={"find": True, "drop": ["leaks", "label_issues"]},
    )
    with caplog.at_level(logging.INFO):
        dropped = drop_faults(found, dataset)
    is_train, faults = found["split"] == "train", faults_of(found)
    assert (dropped["usable"] == ~(is_train & (faults["leaks"] | faults["label_issues"]))).all()
    assert dropped.loc[LEAKED, "reason"] == "dropped: near-duplicate of an image of a held-out split"
    count = (is_train & faults["label_issues"]).sum()
    assert f"faults: {count} images of split 'train' are dropped: label issue" in caplog.messages
    assert (dropped.loc[~dropped["usable"], "reason"].notna()).all()


def test_without_a_search_the_table_has_none_of_the_columns(clothes):
    rows = indexed(clothes)
    file = clothes.parents[1] / "clothes" / "results" / "clothes" / "real.parquet"
    assert not COLUMNS & set(pq.read_schema(file).names)
    assert rows[list(COLUMNS)].isna().all(axis=None)


def features_of(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """A cluster of points for each class."""
    rng = np.random.default_rng(seed)
    features = np.eye(16)[labels] + 0.1 * rng.standard_normal((len(labels), 16))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def columns_of(labels, splits, true_labels=None, clusters=None) -> pd.DataFrame:
    labels = np.asarray(labels)
    names = [f"class {label}" for label in labels]
    ids = [f"{number:03}" for number in range(len(labels))]
    images = pd.DataFrame({"image_id": ids, "label": labels, "label_name": names, "split": splits})
    features = features_of(labels if true_labels is None else np.asarray(true_labels))
    clusters = np.arange(len(labels)) if clusters is None else np.asarray(clusters)
    return fault_columns(images, features, clusters, ["train", "test", "validation"])


def test_a_class_that_no_fold_can_learn_has_no_quality():
    """Its only image, or all its copies, are in the fold that is predicted."""
    labels = [0] * 20 + [1] * 20 + [2] + [3] * 2
    found = columns_of(labels, ["train"] * 43, clusters=[*range(41), 41, 41])
    assert found["label_quality"].isna().tolist() == [False] * 40 + [True] * 3
    assert found["suggested_label"].isna().all()


@pytest.mark.parametrize("counts", [[1, 1], [2, 1], [3, 2, 1], [30, 1, 1]])
def test_tiny_data_sets_have_no_faults(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    splits = ["train"] * len(labels) + ["test"] * len(counts) + ["validation"]
    found = columns_of([*labels, *range(len(counts)), 0], splits)
    assert not found[["suggested_label", "duplicate_of", "leak_of"]].notna().any(axis=None)


def test_a_class_that_is_rare_in_training_is_not_taken_for_wrong_in_the_test_split():
    train, test = [0] * 200 + [1] * 4, [0] * 20 + [1] * 20
    found = columns_of(train + test, ["train"] * 204 + ["test"] * 40)
    assert found["suggested_label"].isna().all()
    assert found["label_quality"][204:].min() > 0.5


def test_test_images_do_not_change_what_is_found_in_the_training_images():
    rng = np.random.default_rng(1)
    true = np.repeat(np.arange(3), 100)
    labels = np.where(np.arange(300) % 50 == 0, (true + 1) % 3, true)
    alone = columns_of(labels, ["train"] * 300, true)
    together = columns_of([*labels, *rng.integers(0, 3, 30)], ["train"] * 300 + ["test"] * 30, [*true, *true[::10]])
    pd.testing.assert_frame_equal(together[:300], alone)
    assert set(alone.index[alone["suggested_label"].notna()]) == {0, 50, 100, 150, 200, 250}


def test_the_original_of_two_copies_is_the_one_with_the_right_label():
    true = np.repeat([0, 1], 100)
    labels = true.copy()
    labels[0] = 1
    found = columns_of(labels, ["train"] * 200, true, clusters=[5, *range(1, 200)])
    assert found["duplicate_of"].dropna().to_dict() == {0: "005"}


def test_leaks_are_images_of_the_split_that_is_trained_on_or_chosen_by():
    splits = ["train", "validation", "test", "train", "validation", "validation", "test", "train"]
    found = columns_of([0, 1] * 4, splits, clusters=[0, 0, 0, 1, 1, 2, 2, 3])
    leaks = found["leak_of"].fillna("none").tolist()
    assert leaks == ["002", "002", "none", "004", "none", "006", "none", "none"]


def test_a_class_keeps_a_training_image_or_the_error_names_it():
    rows = pd.DataFrame({"label_name": ["hat", "bag", "hat", "bag"], "split": ["train", "train", "test", "test"]})
    rows = rows.assign(image_id=list("abcd"), usable=True, reason=None, duplicate_of=None, suggested_label=None)
    rows = rows.assign(outlier_score=1.0, leak_of=["c", None, None, None])
    dataset = Dataset(source="folder", path="x", image_size=28, faults={"find": True, "drop": ["leaks"]})
    with pytest.raises(UserError, match=r"^dataset\.faults\.drop: class 'hat' keeps no training image, because all 1"):
        drop_faults(rows, dataset)


def test_without_cleanlab_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(fault_search, "find_spec", lambda name: None)
    dataset = Dataset(source="folder", path="x", image_size=28, faults={"find": True})
    with pytest.raises(UserError, match=r"needs the package cleanlab; pip install 'synaug\[faults\]', or set it to"):
        fault_search.find_faults(pd.DataFrame(), dataset, 1)


def test_dropping_needs_the_search():
    with pytest.raises(ValidationError, match="drop has no effect without find: true"):
        Dataset(source="folder", path="x", image_size=28, faults={"drop": ["leaks"]})
