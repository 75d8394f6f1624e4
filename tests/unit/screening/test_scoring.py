"""Scoring: every synthetic image has scores, and is accepted or has a reason; no image is dropped."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synaug.config import Balance, Generation, Prompts, Screening
from synaug.images.codec import encode_image
from synaug.manifests import read_manifest, with_fill, with_group, write_manifest
from synaug.manifests.schemas import SCHEMAS
from synaug.plan.rows import plan_generation
from synaug.runtime.errors import UserError
from synaug.screening.checkpoints import extractor_name
from synaug.screening.comparison import compare_images, read_real_images
from synaug.screening.features import read_features
from synaug.screening.filters import apply_filters
from synaug.screening.planned import Planned
from synaug.screening.scorers import load_scorers
from synaug.screening.scoring import ImageForm, score_real, score_shard

FORM, SMALL_FORM = ImageForm(28, "grey"), ImageForm(12, "grey")


@pytest.fixture
def plan(cells) -> pd.DataFrame:
    """4 images of class b and 2 of class c."""
    return plan_generation(
        cells({"a": 6, "b": 2, "c": 4}),
        balance=Balance(),
        prompts=Prompts(),
        generation=Generation(model="m", images_per_shard=5),
        seed=0,
        image_size=28,
        color="grey",
        version="v",
    )


@pytest.fixture
def shards(plan, pngs, tmp_path):
    """A function: shards of `plan` (name -> path), with other bytes, or none, for some image_ids."""

    def write(changes: dict[str, bytes | None]) -> dict[str, str]:
        paths, sources = {}, iter(pngs)
        for name, rows in plan.groupby("shard"):
            data = {image_id: changes.get(image_id, next(sources)) for image_id in rows["image_id"]}
            rows = rows[[data[image_id] is not None for image_id in rows["image_id"]]]
            rows = rows.assign(
                image=[{"bytes": data[image_id], "path": None} for image_id in rows["image_id"]],
                sha256=[hashlib.sha256(data[image_id]).hexdigest() for image_id in rows["image_id"]],
                batch_size=1, threads=1, device="cpu", libraries="", width=28, height=28,
            )  # fmt: skip
            paths[name] = str(tmp_path / f"{name}.parquet")
            write_manifest("shard", rows[SCHEMAS["shard"].names], paths[name])
        return paths

    return write


@pytest.fixture
def real(pngs, tmp_path) -> pd.DataFrame:
    """Real images, none of which is in the shards: 4 training and 3 test images."""
    paths = [tmp_path / f"{i}.png" for i in range(7)]
    for path, data in zip(paths, pngs[60:67], strict=True):
        path.write_bytes(data)
    return pd.DataFrame({"image_id": [f"r{i}" for i in range(7)], "path": [str(path) for path in paths]}).assign(
        split=["train"] * 4 + ["test"] * 3, label=0, label_name="a", usable=True, row=pd.NA
    )


def compared(plan, paths, real, screening, form, folder, scorers=None):
    """Rows of the manifests `scores` and `features`, as the rules make them: through the manifests of single images."""
    folder = folder / "results/e"
    for name, rows in plan.groupby("shard"):
        table = score_shard(rows, paths[name], form, scorers)
        write_manifest("shard_scores", table, folder / "scores" / f"{name}.parquet")
    real_images = None
    if real is not None:
        write_manifest("real_scores", score_real(real, form, scorers), folder / "real_scores.parquet")
        real_images = read_real_images(str(folder / "real_scores.parquet"))
    tables, features = compare_images(
        Planned(pa.Table.from_pandas(with_fill(with_group(plan)), preserve_index=False)),
        sorted(map(str, (folder / "scores").glob("*.parquet"))),
        str(folder.parents[1]),  # the fixtures' shards
        real_images,
        "train",
        duplicates=screening.duplicates is not None,
        leakage=screening.leakage is not None,
    )
    rows = pa.concat_tables([*tables] or [SCHEMAS["scores"].empty_table()], promote_options="permissive").to_pandas()
    return rows.set_index("image_id").loc[plan["image_id"]].reset_index(), features


def screened(plan, paths, tmp_path, real=None, **settings) -> pd.DataFrame:
    """The manifest `synthetic`, as the next rule reads it: through the manifest `scores`."""
    screening = Screening.model_validate(settings)
    scores, _ = compared(plan, paths, real, screening, FORM, tmp_path)
    write_manifest("scores", scores, tmp_path / "scores.parquet")
    rows = apply_filters(read_manifest("scores", tmp_path / "scores.parquet"), screening)
    write_manifest("synthetic", rows, tmp_path / "synthetic.parquet")
    return read_manifest("synthetic", tmp_path / "synthetic.parquet").set_index("image_id")


def test_good_images_are_accepted_and_located(plan, shards, tmp_path):
    table = screened(plan, shards({}), tmp_path)
    assert table["accepted"].all()
    assert table["reason"].isna().all() and table["rejected_by"].isna().all()
    assert sorted(table.index) == sorted(plan["image_id"])
    for row in table.itertuples():
        stored = pq.read_table(row.path, columns=["image_id", "sha256"]).slice(row.row, 1).to_pylist()[0]
        assert stored == {"image_id": row.Index, "sha256": row.sha256}


def test_every_rejected_image_is_a_row_with_a_reason(plan, shards, tmp_path, pngs):
    blank, small, cut, gone, empty = plan["image_id"].iloc[:5]
    paths = shards(
        {
            # What a diffusion model makes if it computes NaN.
            blank: encode_image(np.full((28, 28, 1), 0, np.uint8)),
            small: encode_image(np.random.default_rng(0).integers(0, 256, (16, 28, 1), np.uint8)),
            cut: pngs[0][: len(pngs[0]) // 2],
            gone: None,
            empty: b"",
        }
    )
    table = screened(plan, paths, tmp_path)
    assert len(table) == len(plan)
    assert table["accepted"].sum() == len(plan) - 5
    reasons = table["reason"]
    assert "blank" in reasons[blank]
    assert "28 x 16" in reasons[small]
    assert "not in its shard" in reasons[gone]
    assert "empty" in reasons[empty]
    assert reasons[cut]
    assert table.loc[[blank, small, cut, gone, empty], "rejected_by"].tolist() == ["contrast"] + ["file"] * 4


@pytest.mark.parametrize("column", ["image", "image_id"])
def test_rows_that_cannot_be_read_are_rejected_and_the_others_are_scored(plan, shards, tmp_path, column):
    """A damaged row group costs its own images."""
    file = tmp_path / "x.parquet"
    whole = pa.concat_tables([pq.read_table(path) for path in shards({}).values()], promote_options="permissive")
    pq.write_table(whole, file, row_group_size=2, use_dictionary=False, compression="NONE")
    group = pq.read_metadata(file).row_group(1)
    start = next(
        group.column(number).data_page_offset
        for number in range(group.num_columns)
        if group.column(number).path_in_schema.startswith(column)
    )
    data = bytearray(file.read_bytes())
    ids = pq.read_table(file, columns=["image_id"]).column(0).to_pylist()
    data[start : start + 20] = b"\xff" * 20
    file.write_bytes(data)
    table = screened(plan.assign(shard="x"), {"x": str(file)}, tmp_path)
    rejected = table[~table["accepted"]]
    assert sorted(rejected.index) == sorted(ids[2:4]) and len(table) == len(plan)
    assert rejected["reason"].str.contains("rows 2 to 3 cannot be read").all()
    assert (rejected["rejected_by"] == "file").all()


def test_the_contrast_threshold_is_a_setting(plan, shards, tmp_path):
    assert not screened(plan, shards({}), tmp_path, min_contrast=200.0)["accepted"].any()
    flat = {image_id: encode_image(np.full((28, 28, 1), 7, np.uint8)) for image_id in plan["image_id"]}
    assert screened(plan, shards(flat), tmp_path, min_contrast=0.0)["accepted"].all()


def test_a_plan_without_images_is_screened(plan, tmp_path, real):
    assert len(screened(plan[:0], {}, tmp_path)) == 0
    assert len(screened(plan[:0], {}, tmp_path, real, duplicates={}, leakage={})) == 0


def test_the_first_of_the_repeats_of_a_class_is_kept(plan, shards, tmp_path, pngs):
    b, c = (plan.loc[plan["label_name"] == name, "image_id"].tolist() for name in "bc")
    paths = shards({b[1]: pngs[70], b[3]: pngs[70], c[0]: pngs[70]})
    table = screened(plan, paths, tmp_path, duplicates={"max_hash_distance": 0})
    assert table.index[~table["accepted"]].tolist() == [b[3]]  # the same image in another class is not a repeat
    assert table.loc[b[3], "rejected_by"] == "duplicates"
    assert b[1] in table.loc[b[3], "reason"]
    assert table.loc[b[3], "nearest_earlier_distance"] == 0
    assert table.loc[b[3], "hash_nearest_earlier"] == b[1]
    assert pd.isna(table.loc[b[0], "hash_nearest_earlier"])
    assert screened(plan, paths, tmp_path, duplicates={"max_hash_distance": None})["accepted"].all()


def test_copies_of_real_images_are_rejected_with_their_ids(plan, shards, tmp_path, real):
    first, second, third = plan["image_id"].iloc[:3]
    copies = {first: real["path"][5], second: real["path"][1]}
    paths = shards({image_id: Path(path).read_bytes() for image_id, path in copies.items()})
    table = screened(plan, paths, tmp_path, real, leakage={"max_hash_distance": 0})
    assert table.loc[first, ["rejected_by", "reason"]].tolist() == [
        "leakage_test",
        "is too near to the test image r5 (hash distance 0 <= 0)",
    ]
    assert table.loc[second, "rejected_by"] == "leakage_train"
    assert "training image r1" in table.loc[second, "reason"]
    assert table.loc[third, "accepted"]
    assert table["hash_nearest_train"].isin(["r0", "r1", "r2", "r3"]).all()
    assert table["hash_nearest_test"].isin(["r4", "r5", "r6"]).all()
    assert table["nearest_train_similarity"].isna().all()  # no network makes features


def test_screening_without_networks_does_not_import_torch(repository):
    code = "import sys; import synaug.screening.scoring, synaug.screening.comparison, synaug.screening.quality; "
    code += "assert 'torch' not in sys.modules"
    environment = {"PYTHONPATH": str(repository / "workflow_scripts")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_real_image_that_is_gone_is_a_user_error(plan, shards, tmp_path, real):
    with pytest.raises(UserError, match=r"gone\.png"):
        screened(plan, shards({}), tmp_path, real.assign(path="gone.png"), leakage={})


@pytest.fixture
def planned_images(pixels, prompts, tmp_path) -> tuple[pd.DataFrame, dict[str, str], pd.DataFrame]:
    """Plan, shards and real images: 3 synthetic (the last one damaged), 2 training images and 1 test image."""
    encoded = [encode_image(image) for image in pixels(2)] + [b"broken"]
    plan = pd.DataFrame({"image_id": ["s0", "s1", "s2"], "label": 0, "label_name": "dark", "index": range(3)})
    plan = plan.assign(prompt=prompts, stored_size=12, shard="x")
    table = pd.DataFrame({"image": [{"bytes": image, "path": None} for image in encoded], "image_id": plan["image_id"]})
    path = tmp_path / "x.parquet"
    table.assign(sha256="h").to_parquet(path)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for file, image in zip(paths, pixels(3), strict=True):
        file.write_bytes(encode_image(image))
    real = pd.DataFrame({"image_id": ["r0", "r1", "r2"], "path": [str(path) for path in paths], "row": pd.NA})
    real = real.assign(split=["train", "test", "train"], label=[0, 0, 1], label_name=["dark", "dark", "bright"])
    return plan, {"x": str(path)}, real.assign(usable=True)


def test_the_classes_of_held_out_real_images_are_recorded(planned_images, screening_classifier, tmp_path):
    """A gate needs the recall of each class on images that the classifier was not trained on."""
    *_, real = planned_images
    screening = Screening.model_validate({"classifier": {"model": str(screening_classifier)}})
    scorers = load_scorers(screening, SMALL_FORM, ["dark", "bright"], str(screening_classifier), "cpu")
    write_manifest("real_scores", score_real(real, SMALL_FORM, scorers), tmp_path / "real_scores.parquet")
    table = read_manifest("real_scores", tmp_path / "real_scores.parquet").set_index("image_id")
    assert table["split"].to_dict() == {"r0": "train", "r1": "test", "r2": "train"}
    assert set(table["classifier_prediction"]) <= {"dark", "bright"}
    predicted = table["classifier_prediction"] == table["label_name"]
    assert (predicted == (table["classifier_confidence"] > 0.5)).all()  # of two classes
    assert table["features"].notna().all() and table["perceptual_hash"].notna().all()


KILLED = """
import os
import signal
import sys

from screening import score_shard
from synaug.screening import scoring

plan, shard, name, scores, after = sys.argv[1:]
whole, calls = scoring.read_image, iter(range(int(after) or sys.maxsize))


def read_image(*arguments):
    if next(calls, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*arguments)


scoring.read_image = read_image
settings = {"screening": {}, "form": {"image_size": 28, "color": "grey"}}
score_shard.main(plan, shard, name, None, settings, 1, scores)
"""


def test_a_job_that_is_killed_leaves_no_scores_and_its_rerun_writes_the_same_bytes(plan, shards, tmp_path, repository):
    folder = tmp_path / "results/e"
    write_manifest("plan", plan, folder / "plan.parquet")
    name, path = max(shards({}).items(), key=lambda item: Path(item[1]).stat().st_size)
    (tmp_path / "killed.py").write_text(KILLED)

    def score(file: str, after: int) -> int:
        """Exit status of a job that is killed when it reads image number `after`; 0: it is not killed."""
        arguments = [str(tmp_path / "killed.py"), str(folder / "plan.parquet"), path, name, str(folder / file)]
        environment = {"PYTHONPATH": str(repository / "workflow_scripts")}
        return subprocess.run([sys.executable, *arguments, str(after)], env=environment).returncode

    assert score("undisturbed.parquet", 0) == 0
    assert score("scores.parquet", 2) == -9
    assert not (folder / "scores.parquet").exists()
    assert score("scores.parquet", 0) == 0
    assert (folder / "scores.parquet").read_bytes() == (folder / "undisturbed.parquet").read_bytes()


@pytest.mark.parametrize("space", ["classifier", "text_image"])
def test_all_scores_are_columns_and_features_are_kept(
    planned_images, clip, safety, screening_classifier, space, tmp_path
):
    blocks = {"text_image": {"model": str(clip)}, "safety": {"model": str(safety), "unsafe_labels": ["nsfw"]}}
    blocks |= {"classifier": {"model": str(screening_classifier)}, "duplicates": {}, "leakage": {}, "features": space}
    screening = Screening.model_validate(blocks)
    scorers = load_scorers(screening, SMALL_FORM, ["dark", "bright"], str(screening_classifier), "cpu")
    scores, features = compared(*planned_images, screening, SMALL_FORM, tmp_path, scorers)
    write_manifest("scores", scores, tmp_path / "scores.parquet")
    table = read_manifest("scores", tmp_path / "scores.parquet").set_index("image_id")
    for name in (
        "text_image_score",
        "classifier_confidence",
        "classifier_prediction",
        "classifier_entropy",
        "safety_score",
        "nearest_train_similarity",
    ):
        assert table.loc[["s0", "s1"], name].notna().all(), name
        assert pd.isna(table.loc["s2", name]), name
    assert table.loc["s0", ["nearest_train", "hash_nearest_train"]].tolist() == ["r0", "r0"]  # the same pixels
    assert table.loc["s1", ["nearest_test", "hash_nearest_test"]].tolist() == ["r1", "r1"]
    assert table.loc["s0", "nearest_train_similarity"] > 0.9999
    assert table.loc["s1", "nearest_earlier"] == "s0"
    assert pd.isna(table.loc["s0", "nearest_earlier"])
    write_manifest("features", features, tmp_path / "features.parquet")
    positions, matrix, extractor = read_features(tmp_path / "features.parquet")
    assert extractor == extractor_name(screening, str(screening_classifier))
    assert extractor.startswith(f"{space} sha256:")
    assert set(positions.index) == {("synthetic", "s0"), ("synthetic", "s1"), ("real", "r0"), ("real", "r2")}
    np.testing.assert_allclose(matrix[positions["synthetic", "s0"]], matrix[positions["real", "r0"]], atol=1e-5)
