"""`synaug diff`: the differences between two manifests, and the exit status."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

from synaug.manifests import write_manifest


@pytest.fixture
def balanced(tmp_path):
    """A function: name and rows (class, id, weight) to a manifest `balanced` of that name."""

    def make(name: str, rows: list[tuple[str, str, float]]):
        frame = pd.DataFrame(rows, columns=["label_name", "image_id", "weight"])
        order = {label: i for i, label in enumerate(sorted(set(frame["label_name"])))}
        frame = frame.assign(label=frame["label_name"].map(order), source="real", sha256="0" * 64, path="x")
        write_manifest("balanced", frame, tmp_path / name)
        return tmp_path / name

    return make


OLD = [("cat", "a", 1.0), ("cat", "b", 1.0), ("dog", "c", 1.0), ("dog", "d", 1.0)]


def test_the_same_rows_are_no_difference(synaug, balanced):
    status, out, _ = synaug("diff", balanced("old", OLD), balanced("new", OLD[::-1]))
    assert (status, out) == (0, "no difference: manifest balanced, 4 rows\n")


def test_added_removed_and_changed_rows(synaug, balanced):
    new = [("cat", "a", 1.0), ("cat", "b", 0.5), ("dog", "d", 1.0), ("dog", "e", 1.0), ("dog", "f", 1.0)]
    status, out, _ = synaug("diff", balanced("old", OLD), balanced("new", new))
    assert status == 1
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "manifest balanced: 4 -> 5 rows; 2 added, 1 removed, 1 changed"
    assert lines[1] == "changed columns: weight (1 row)"
    assert "changed: label_name cat, source real, image_id b: weight 1.0 -> 0.5" in lines
    assert "removed: label_name dog, source real, image_id c" in lines
    assert "label_name old new added removed changed" in lines
    assert "dog 2 3 2 1 0" in lines and "cat 2 2 0 0 1" in lines


def test_a_new_class_leaves_the_rows_of_the_others_matched(synaug, balanced):
    """It changes the numbers of the classes after it, and only that is reported."""
    status, out, _ = synaug("diff", balanced("old", OLD), balanced("new", [*OLD, ("bird", "z", 1.0)]))
    assert status == 1
    assert "1 added, 0 removed, 4 changed" in out and "changed columns: label (4 rows)" in out


def test_a_class_name_with_a_line_break_is_shown_on_one_line(synaug, balanced):
    old = [("a\ncat", "a", 1.0), ("a\ncat", "b", 1.0)]
    _, out, _ = synaug("diff", balanced("old", old), balanced("new", [("a\ncat", "a", 0.5), ("dog", "c", 1.0)]))
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "changed: label_name a cat, source real, image_id a: weight 1.0 -> 0.5" in lines
    assert "a cat 2 1 0 1 1" in lines


def test_rows_with_the_same_key_are_counted(synaug, balanced):
    twice = [("cat", "a", 1.0), ("cat", "a", 1.0)]
    status, out, _ = synaug("diff", balanced("old", twice), balanced("new", twice[:1]))
    assert status == 1 and "0 added, 1 removed, 0 changed" in out
    assert synaug("diff", balanced("old", twice), balanced("new", twice))[0] == 0


def test_columns_of_only_one_manifest(synaug, balanced):
    old, new = balanced("old", OLD), balanced("new", OLD)
    table = pq.read_table(old)
    pq.write_table(table.drop_columns("group"), old)
    status, out, _ = synaug("diff", old, new)
    assert status == 1 and "columns only in NEW: group" in out
    assert "columns only in OLD: group" in synaug("diff", new, old)[1]


def test_null_equals_null_and_lists_are_compared(synaug, tmp_path):
    rows = pd.DataFrame({"image_id": ["a", "b"], "split": "test", "label": 0, "label_name": "x", "predicted": [0, 1]})
    for name, probabilities in (("old", [[0.5, 0.5], [0.1, 0.9]]), ("new", [[0.5, 0.5], [0.2, 0.8]])):
        write_manifest("predictions", rows.assign(probabilities=probabilities), tmp_path / name)
    assert synaug("diff", tmp_path / "old", tmp_path / "old")[0] == 0
    status, out, _ = synaug("diff", tmp_path / "old", tmp_path / "new")
    assert status == 1 and "changed columns: probabilities (1 row)" in out


def test_images_of_shards_are_compared_by_their_hash(synaug, plan, tmp_path):
    shard = plan.drop(columns=["label", "fill", "index", "shard", "truncate"]).assign(
        image=[{"bytes": b"x", "path": "x"}] * len(plan), sha256="0" * 64, width=1, height=1, batch_size=1,
        device="cpu", threads=1, libraries="",
    )  # fmt: skip
    write_manifest("shard", shard, tmp_path / "old")
    shard.loc[3, "sha256"] = "1" * 64
    write_manifest("shard", shard, tmp_path / "new")
    status, out, _ = synaug("diff", tmp_path / "old", tmp_path / "new")
    assert status == 1 and "changed columns: sha256 (1 row)" in out


def test_files_that_cannot_be_compared_are_status_2(synaug, balanced, plan, tmp_path):
    old = balanced("old", OLD)
    write_manifest("plan", plan, tmp_path / "plan")
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "any")
    (tmp_path / "words").write_text("words")
    for other, message in (
        ("plan", "name two of the same kind"),
        ("any", "is no manifest of synaug"),
        ("words", "is not a readable Parquet file"),
        ("gone", "no such file"),
    ):
        status, out, err = synaug("diff", old, tmp_path / other)
        assert (status, out) == (2, "") and message in err and err.count("\n") == 1
