"""Every synthetic image is scored, and is accepted or has a reason; nothing is dropped."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.fft import dctn

from synaug.config import Balance, Generation, Prompts, Screening
from synaug.images.codec import encode_image
from synaug.images.perceptual_hash import nearest_earlier_hashes, nearest_hashes, perceptual_hashes
from synaug.manifests import read_manifest, write_manifest
from synaug.manifests.schemas import SCHEMAS
from synaug.plan.rows import plan_generation
from synaug.runtime.errors import UserError
from synaug.screening import screen_synthetic
from synaug.screening.scoring import Form, score_synthetic

FORM = Form(28, "grey", "train", "test")


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
    """Real images, none of which is in the shards: 4 to train on and 3 to test on."""
    paths = [tmp_path / f"{i}.png" for i in range(7)]
    for path, data in zip(paths, pngs[60:67], strict=True):
        path.write_bytes(data)
    return pd.DataFrame({"image_id": [f"r{i}" for i in range(7)], "path": [str(path) for path in paths]}).assign(
        split=["train"] * 4 + ["test"] * 3, label=0, label_name="a", usable=True, row=pd.NA
    )


def screened(plan, paths, tmp_path, real=None, **settings) -> pd.DataFrame:
    """The manifest `synthetic`, as the next rule reads it: through the manifest `scores`."""
    screening = Screening.model_validate(settings)
    scores, _ = score_synthetic(plan, paths, real, Screening.model_validate(screening.scoring()), FORM)
    write_manifest("scores", scores, tmp_path / "scores.parquet")
    rows = screen_synthetic(read_manifest("scores", tmp_path / "scores.parquet"), screening)
    write_manifest("synthetic", rows, tmp_path / "synthetic.parquet")
    return read_manifest("synthetic", tmp_path / "synthetic.parquet").set_index("image_id")


def test_good_images_are_accepted_and_can_be_found(plan, shards, tmp_path):
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
            # What a diffusion model that computes NaN leaves behind.
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


def test_contrast_limit_is_the_users(plan, shards, tmp_path):
    assert not screened(plan, shards({}), tmp_path, min_contrast=200.0)["accepted"].any()
    flat = {image_id: encode_image(np.full((28, 28, 1), 7, np.uint8)) for image_id in plan["image_id"]}
    assert screened(plan, shards(flat), tmp_path, min_contrast=0.0)["accepted"].all()


def test_a_plan_without_images_is_screened(plan, tmp_path):
    assert len(screened(plan[:0], {}, tmp_path)) == 0


def test_of_repeats_within_a_class_the_first_stays(plan, shards, tmp_path, pngs):
    b, c = (plan.loc[plan["label_name"] == name, "image_id"].tolist() for name in "bc")
    paths = shards({b[1]: pngs[70], b[3]: pngs[70], c[0]: pngs[70]})
    table = screened(plan, paths, tmp_path, duplicates={"max_hash_distance": 0})
    assert table.index[~table["accepted"]].tolist() == [b[3]]  # the one of another class is no repeat
    assert table.loc[b[3], "rejected_by"] == "duplicates"
    assert b[1] in table.loc[b[3], "reason"]
    assert table.loc[b[3], "nearest_earlier_distance"] == 0
    assert table.loc[b[3], "hash_nearest_earlier"] == b[1]
    assert pd.isna(table.loc[b[0], "hash_nearest_earlier"])
    assert screened(plan, paths, tmp_path, duplicates={"max_hash_distance": None})["accepted"].all()


def scores_of(links: dict[str, str], **columns) -> pd.DataFrame:
    """Scores of images x0 to x4 of one class: near the earlier image that `links` says, to nothing else."""
    ids = [f"x{i}" for i in range(5)]
    rows = pd.DataFrame({"image_id": ids, "label": 0, "index": range(5), "fault": None, "contrast": 50.0})
    near = {"hash_nearest_earlier": [links.get(one) for one in ids], "nearest_earlier_distance": 0.0}
    return rows.assign(**near, nearest_earlier=None, nearest_earlier_similarity=np.nan, **columns)


@pytest.mark.parametrize(
    ("links", "fault", "kept"),
    [
        ({"x1": "x0", "x2": "x1", "x3": "x2"}, [], {"x0", "x4"}),  # a chain is one group
        ({"x1": "x0", "x2": "x0"}, ["x0"], {"x1", "x3", "x4"}),  # the first is damaged: the next one stands in
        ({"x1": "x0"}, ["x0", "x1"], {"x2", "x3", "x4"}),
        ({}, [], {"x0", "x1", "x2", "x3", "x4"}),
    ],
)
def test_one_image_of_a_group_of_repeats_stays(links, fault, kept):
    rows = scores_of(links)
    rows.loc[rows["image_id"].isin(fault), "fault"] = "is damaged"
    table = screen_synthetic(rows, Screening.model_validate({"duplicates": {}}))
    assert set(table.loc[table["accepted"], "image_id"]) == kept


def test_copies_of_real_images_are_named(plan, shards, tmp_path, real):
    first, second, third = plan["image_id"].iloc[:3]
    copies = {first: real["path"][5], second: real["path"][1]}
    paths = shards({one: Path(path).read_bytes() for one, path in copies.items()})
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


def test_thresholds_on_scores_reject_and_null_only_records():
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
    table = screen_synthetic(rows, Screening.model_validate(blocks))
    assert table["rejected_by"].fillna("").tolist() == ["text_image", "", "classifier", "safety", ""]
    assert table["reason"].iloc[2] == "is not taken for its class (confidence 0.010 < 0.05)"
    broken = rows.assign(safety_score=np.nan)  # a network that computes no number has not said that it is safe
    assert not screen_synthetic(broken, Screening.model_validate(blocks))["accepted"].any()
    recorded = {name: block | {list(block)[-1]: None} for name, block in blocks.items()}
    assert screen_synthetic(rows, Screening.model_validate(recorded))["accepted"].all()


def test_hash_is_pHash_computed_naively():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 1), np.uint8)
    means = pixels[..., 0].reshape(20, 32, 2, 32, 2).mean((2, 4))
    for image, found in zip(means, perceptual_hashes(pixels), strict=True):
        low = dctn(image, norm="ortho")[:8, :8].ravel()
        assert int(found) == int("".join(str(int(one)) for one in low > np.median(low)), 2)


def load_images(pngs) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(one)))[..., None] for one in pngs])


def test_hash_of_alike_images_is_near_and_of_others_far(pngs):
    pixels = load_images(pngs)
    noisy = np.clip(pixels + np.random.default_rng(0).normal(0, 2, pixels.shape), 0, 255).astype(np.uint8)
    apart = np.bitwise_count(perceptual_hashes(pixels) ^ perceptual_hashes(noisy))
    assert np.quantile(apart, 0.95) <= 4
    _, nearest = nearest_earlier_hashes(perceptual_hashes(pixels))
    assert np.median(nearest[20:]) > 6
    assert len(perceptual_hashes(pixels[:0])) == 0
    assert len(perceptual_hashes(np.repeat(pixels[:3], 3, axis=3))) == 3


@pytest.mark.parametrize("block", [4, 1 << 21])
def test_nearest_hashes_equal_a_loop(block, monkeypatch):
    monkeypatch.setattr("synaug.images.perceptual_hash._BLOCK", block)
    hashes, others = np.random.default_rng(1).integers(0, 2**63, (2, 30)).astype(np.uint64)
    where, distance = nearest_hashes(hashes, others)
    earlier, before = nearest_earlier_hashes(hashes)
    for i, one in enumerate(hashes):
        bits = [int(one ^ other).bit_count() for other in others]
        assert (where[i], distance[i]) == (int(np.argmin(bits)), min(bits))
        bits = [int(one ^ other).bit_count() for other in hashes[:i]]
        assert (earlier[i], before[i]) == ((int(np.argmin(bits)), min(bits)) if bits else (-1, 65))
    assert nearest_hashes(hashes, others[:0])[0].tolist() == [-1] * 30
    assert len(nearest_earlier_hashes(hashes[:0])[0]) == 0


def test_light_screening_does_without_torch(repository):
    import subprocess
    import sys

    code = "import sys; import synaug.screening.scoring, synaug.screening.quality, synaug.screening.checkpoints; "
    code += "assert 'torch' not in sys.modules"
    path = {"PYTHONPATH": str(repository / "workflow_scripts")}
    subprocess.run([sys.executable, "-c", code], check=True, env=path)


@pytest.mark.parametrize(
    "block",
    [
        {"features": "text_image"},
        {"duplicates": {"min_similarity": 0.9}},
        {"leakage": {"min_similarity": 0.9}, "text_image": {"model": "m"}},
        {"safety": {"model": "m", "unsafe_labels": []}},
        {"min_confidence": 0.1},
    ],
)
def test_config_refuses_what_cannot_be(block):
    with pytest.raises(ValueError):
        Screening.model_validate(block)


def test_thresholds_and_training_steps_are_no_part_of_what_decides_scores():
    def scoring(**changes):
        block = {"classifier": {}, "duplicates": {}, "leakage": {}, "text_image": {"model": "m"}}
        block["safety"] = {"model": "m", "unsafe_labels": ["x"]}
        return Screening.model_validate({**block, **changes}).scoring()

    plain = scoring()
    assert plain == scoring(
        min_contrast=9.0,
        classifier={"steps": 5, "min_confidence": 0.5},
        duplicates={"max_hash_distance": 1, "min_similarity": 0.5},
        leakage={"max_hash_distance": None},
        text_image={"model": "m", "min_score": 0.1},
        safety={"model": "m", "unsafe_labels": ["x"], "max_score": 0.1},
    )
    assert plain != scoring(text_image={"model": "n"})
    assert plain != scoring(leakage=None)


def test_a_real_image_that_is_gone_is_a_user_error(plan, shards, tmp_path, real):
    with pytest.raises(UserError, match=r"gone\.png"):
        screened(plan, shards({}), tmp_path, real.assign(path="gone.png"), leakage={})
