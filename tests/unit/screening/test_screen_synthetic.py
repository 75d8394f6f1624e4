"""The rule screen_synthetic: the verdicts of a table that is read, judged and sorted in parts."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from screening import screen_synthetic
from synaug.config import Screening
from synaug.manifests import read_manifest, sorting, write_manifest
from synaug.runtime.errors import UserError
from synaug.screening.filters import apply_filters

SCREENING = {
    "text_image": {"model": "none", "revision": "none", "min_score": 0.2},
    "duplicates": {"max_hash_distance": 4},
    "leakage": {"max_hash_distance": 4},
}


@pytest.fixture
def scores(tmp_path, monkeypatch):
    """Path of the manifest `scores` of 600 images in row groups of 64, of which some fail each check."""
    monkeypatch.setattr("synaug.manifests.tables.ROW_GROUP", 64)
    rng, count = np.random.default_rng(0), 600
    rows = pd.DataFrame({"image_id": [f"{i:024x}" for i in rng.permutation(count)], "label": np.arange(count) // 200})
    index = np.arange(count) % 100
    rows = rows.assign(
        label_name="class " + rows["label"].astype(str), group=np.where(np.arange(count) % 200 < 100, "a", "b"),
        index=index, path="p", row=index, column="image", width=8, height=8, sha256="s",
        contrast=rng.uniform(0, 60, count), text_image_score=rng.uniform(0.15, 1, count),
        hash_nearest_test="t", nearest_test_distance=rng.integers(0, 60, count),
        fault=np.where(rng.random(count) < 0.1, "is empty", None),
    )  # fmt: skip
    # The nearest earlier image may be many row groups before.
    earlier = [None if i % 200 == 0 else int(rng.integers(i // 200 * 200, i)) for i in range(count)]
    ids = [None if one is None else rows["image_id"][one] for one in earlier]
    rows = rows.assign(hash_nearest_earlier=ids, nearest_earlier_distance=rng.integers(0, 40, count))
    write_manifest("scores", rows, tmp_path / "scores.parquet")
    return tmp_path / "scores.parquet"


@pytest.mark.parametrize("class_bytes", [0, 20_000, 1 << 28])  # all classes to duckdb, after some row groups, none
def test_a_table_in_parts_has_the_verdicts_of_the_whole(scores, tmp_path, monkeypatch, class_bytes):
    monkeypatch.setattr(sorting, "_CLASS_BYTES", class_bytes)
    screen_synthetic.main(scores, SCREENING, tmp_path / "parts.parquet")
    whole = apply_filters(read_manifest("scores", scores), Screening.model_validate(SCREENING))
    assert whole["rejected_by"].value_counts().reindex(["file", "text_image", "leakage_test", "duplicates"]).min() > 10
    write_manifest("synthetic", whole, tmp_path / "whole.parquet")
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_disk_that_is_full_while_rows_are_sorted_is_one_line_and_leaves_the_old_table(scores, tmp_path, monkeypatch):
    """As if the disk had almost no space: duckdb has little memory and may not spill."""
    path = tmp_path / "synthetic.parquet"
    path.write_text("old")
    monkeypatch.setattr(sorting, "_CLASS_BYTES", 0)
    monkeypatch.setattr(sorting, "_LIMITS", {"memory_limit": "1MB", "max_temp_directory_size": "0MB"})
    monkeypatch.setattr(sorting, "shutil", SimpleNamespace(disk_usage=lambda folder: SimpleNamespace(free=1000)))
    with pytest.raises(UserError, match=r"synthetic\.parquet: cannot be written, there is no space to sort its rows"):
        screen_synthetic.main(scores, SCREENING, path)
    assert path.read_text() == "old"
    assert {file.name for file in tmp_path.iterdir()} == {"scores.parquet", "synthetic.parquet"}


def test_too_little_memory_to_sort_is_not_called_a_full_disk(scores, tmp_path, monkeypatch):
    monkeypatch.setattr(sorting, "_CLASS_BYTES", 0)
    monkeypatch.setattr(sorting, "_LIMITS", {"memory_limit": "1MB"})
    problem = r"sorting its rows needs more than the 1MB of memory that duckdb may use \(threads: 2\)"
    with pytest.raises(UserError, match=problem + ".*; give the job one thread"):
        screen_synthetic.main(scores, SCREENING, tmp_path / "synthetic.parquet", 2)
    assert [file.name for file in tmp_path.iterdir()] == ["scores.parquet"]


def test_too_little_memory_while_sorted_rows_are_returned_is_one_line(scores, tmp_path, monkeypatch):
    """duckdb raises this only beyond gigabytes of rows; the text is that of a sort of 20 million rows in 128 MB."""

    def rows_of(query):
        raise OSError("Out of Memory Error: failed to pin block of size 256.0 KiB (121.9 MiB/122.0 MiB used)")

    connection = SimpleNamespace(register=lambda name, rows: None, sql=rows_of)
    monkeypatch.setattr("duckdb.connect", lambda config: nullcontext(connection))
    monkeypatch.setattr(sorting, "_CLASS_BYTES", 0)
    with pytest.raises(UserError, match="sorting its rows needs more than the 2GB of memory that duckdb may use"):
        screen_synthetic.main(scores, SCREENING, tmp_path / "synthetic.parquet")
    assert [file.name for file in tmp_path.iterdir()] == ["scores.parquet"]


@pytest.mark.parametrize(("gigabytes", "memory"), [(0, "128MB"), (1, "128MB"), (4, "256MB"), (25, "640MB")])
def test_a_sort_of_known_size_gets_memory_with_the_root_of_the_size(gigabytes, memory):
    assert sorting._memory_for(gigabytes * 10**9) == memory


def test_damaged_scores_are_a_user_error_and_leave_nothing(scores, tmp_path):
    data = bytearray(scores.read_bytes())
    data[2000:2400] = bytes(400)
    scores.write_bytes(data)
    with pytest.raises(UserError, match=r"scores\.parquet: is damaged .*; delete it and run again"):
        screen_synthetic.main(scores, {}, tmp_path / "synthetic.parquet")
    assert [file.name for file in tmp_path.iterdir()] == ["scores.parquet"]


@pytest.mark.parametrize("screening", [{}, SCREENING, {"classifier": {"must_agree": True}}])
def test_a_table_without_images_has_no_verdicts(tmp_path, screening):
    write_manifest("scores", pd.DataFrame(), tmp_path / "scores.parquet")
    screen_synthetic.main(tmp_path / "scores.parquet", screening, tmp_path / "synthetic.parquet")
    assert read_manifest("synthetic", tmp_path / "synthetic.parquet").empty
