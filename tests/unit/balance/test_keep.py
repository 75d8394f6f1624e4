"""Which of the accepted synthetic images are kept: those that cover the others, or those that are uncertain."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from synaug.balance import build_balanced_manifest
from synaug.config import Balance
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.errors import UserError
from synaug.screening.features import covering, read_features

# Directions of three kinds of images of a class, and of one image unlike all others.
ANGLES = {"common": [0, 1, 2, 3, 4, 5, 6, 7], "rarer": [90, 91, 92], "rare": [180, 181], "outlier": [270]}


def kinds() -> np.ndarray:
    """The features of the images of ANGLES, float32, 14 x 2."""
    angles = np.radians(np.concatenate(list(ANGLES.values())))
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def names(positions: np.ndarray) -> list[str]:
    return [np.repeat(list(ANGLES), [len(angles) for angles in ANGLES.values()])[i] for i in positions]


def test_every_kind_of_image_is_chosen_before_another_of_the_same_kind():
    chosen = names(covering(kinds(), 4))
    assert chosen[0] == "common" and set(chosen) == set(ANGLES)
    assert set(names(covering(kinds(), 3))) == {"common", "rarer", "rare"}  # an outlier represents only itself


def test_the_choice_is_the_same_however_many_images_are_chosen_and_whatever_their_order():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 6)).astype(np.float32)
    chosen = covering(features, 40)
    assert len(set(chosen.tolist())) == 40
    np.testing.assert_array_equal(covering(features, 90)[:40], chosen)
    order = rng.permutation(300)
    np.testing.assert_array_equal(order[covering(features[order], 40)], chosen)
    np.testing.assert_array_equal(np.sort(covering(features, 300)), np.arange(300))


def test_each_choice_is_the_best_of_all_images():
    features = np.random.default_rng(1).normal(size=(150, 4))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    chosen = covering(features, 20)
    for number in range(20):
        gains = np.maximum(unit @ unit.T, (unit @ unit[chosen[:number]].T).max(1, initial=-1)).sum(1)
        assert gains[chosen[number]] == pytest.approx(gains.max(), abs=1e-8)


def test_equal_images_and_images_without_usable_features_are_chosen_too():
    assert covering(np.ones((3, 2), np.float32), 3).tolist() == [0, 1, 2]
    assert sorted(covering(np.array([[0, 0], [np.nan, 1], [1, 0]], np.float32), 3)) == [0, 1, 2]
    assert covering(np.ones((2, 2), np.float32), 0).tolist() == []


@pytest.fixture
def experiment(tmp_path):
    """Manifests of two groups of a class b with 14 images each, as in ANGLES, in the folder `tmp_path`.

    Each group has 2 of 6 images of class a; both lack 4. The features of the group y are those of x, turned round.
    """
    cells = [("a", 0, "x", 6), ("a", 0, "y", 6), ("b", 1, "x", 2), ("b", 1, "y", 2)]
    imbalance = pd.DataFrame(cells, columns=["label_name", "label", "group", "count"]).assign(kind="cell")
    rows = pd.DataFrame({"group": np.repeat(["x", "y"], 14), "index": np.tile(np.arange(14), 2)})
    rows = rows.assign(image_id=[f"{group}{index:02}" for group, index in rows.to_numpy()], label=1, label_name="b")
    rows = rows.assign(sha256="h", path="x.parquet", row=0, column="image", accepted=True, classifier_confidence=0.5)
    rows["classifier_entropy"] = np.tile(np.linspace(0, 1, 14), 2)
    write_manifest("synthetic", rows, tmp_path / "synthetic.parquet")
    features = rows[["image_id", "label", "label_name", "group"]].assign(source="synthetic", extractor="x")
    features["features"] = list(np.concatenate([kinds(), kinds()[::-1]]))
    write_manifest("features", pa.Table.from_pandas(features, preserve_index=False), tmp_path / "features.parquet")
    real = pd.DataFrame(columns=["image_id", "split", "label", "label_name", "group", "path", "row", "sha256"])
    return real.assign(usable=pd.Series(dtype=bool)), imbalance


def kept(experiment, folder, keep: str, rejected: tuple[str, ...] = ()) -> list[str]:
    real, imbalance = experiment
    synthetic = read_manifest("synthetic", folder / "synthetic.parquet")
    synthetic = synthetic.assign(accepted=~synthetic["image_id"].isin(rejected), rejected_by="contrast", reason="")
    features = read_features(folder / "features.parquet")
    balance = Balance(keep=keep, oversample=3.5)
    table = build_balanced_manifest(real, synthetic, imbalance, "train", balance, features=features)
    assert (table["source"] == "synthetic").all()
    return sorted(table["image_id"])


def test_coverage_keeps_every_kind_of_image_in_each_group(experiment, tmp_path):
    images = kept(experiment, tmp_path, "coverage")
    numbers = {group: [int(name[1:]) for name in images if name[0] == group] for group in "xy"}
    assert set(names(np.array(numbers["x"]))) == set(ANGLES)
    assert set(names(13 - np.array(numbers["y"]))) == set(ANGLES)
    assert kept(experiment, tmp_path, "score") == [f"{group}0{i}" for group in "xy" for i in range(4)]  # by the plan


def test_coverage_chooses_among_accepted_images_only(experiment, tmp_path):
    images = kept(experiment, tmp_path, "coverage", rejected=("x13", "x12", "x11"))
    assert not {"x13", "x12", "x11"} & set(images) and len(images) == 8


def test_uncertain_keeps_the_accepted_images_with_the_highest_entropy(experiment, tmp_path):
    images = kept(experiment, tmp_path, "uncertain", rejected=("x13",))
    assert images == ["x09", "x10", "x11", "x12", "y10", "y11", "y12", "y13"]


def test_scores_of_an_older_version_cannot_say_what_is_uncertain(experiment, tmp_path):
    rows = read_manifest("synthetic", tmp_path / "synthetic.parquet")
    rows.loc[0, "classifier_entropy"] = None
    write_manifest("synthetic", rows, tmp_path / "synthetic.parquet")
    with pytest.raises(UserError, match=r"without classifier_entropy, because an older version .* delete .* scores"):
        kept(experiment, tmp_path, "uncertain")
    assert len(kept(experiment, tmp_path, "coverage")) == 8


def test_an_image_without_features_is_an_error(experiment, tmp_path):
    table = read_manifest("features", tmp_path / "features.parquet")
    write_manifest("features", pa.Table.from_pandas(table[1:], preserve_index=False), tmp_path / "features.parquet")
    with pytest.raises(UserError, match=r"features.parquet: has no image x00; delete it"):
        kept(experiment, tmp_path, "coverage")
