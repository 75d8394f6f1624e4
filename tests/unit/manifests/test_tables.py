"""Manifests: byte-stable, written atomically, and readable by other tools."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synaug.commands.verify_manifests import content_fault
from synaug.manifests import class_names, read_manifest, read_with_local_paths, write_manifest, write_sorted
from synaug.manifests.schemas import SCHEMAS
from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path, text_hash


def real_rows(count: int = 40) -> pd.DataFrame:
    """Rows of the manifest `real` with nulls and repeated strings."""
    names = ["shirt", "Äpfel", "a/b", 'the "best"']
    rng = np.random.default_rng(0)
    label = rng.integers(0, len(names), count)
    return pd.DataFrame(
        {
            "image_id": [f"{i:04d}" for i in rng.permutation(count)],
            "split": rng.choice(["train", "test"], count),
            "label": label,
            "label_name": [names[i] for i in label],
            "path": rng.choice(["b.parquet", "a.parquet"], count),
            "row": pd.array([None if i % 3 == 0 else i for i in range(count)], "Int64"),
            "width": pd.array([None if i % 5 == 0 else 28 for i in range(count)], "Int32"),
            "height": pd.array([28] * count, "Int32"),
            "sha256": [text_hash(i) for i in range(count)],
            "usable": [i % 5 != 0 for i in range(count)],
            "reason": ["is empty" if i % 5 == 0 else None for i in range(count)],
        }
    )


@pytest.mark.parametrize("seed", range(5))
def test_rows_in_another_order_give_the_same_bytes(tmp_path, seed):
    write_manifest("real", real_rows(), tmp_path / "a.parquet")
    write_manifest("real", real_rows().sample(frac=1, random_state=seed), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_reading_gives_back_what_was_written(tmp_path):
    write_manifest("real", real_rows(), tmp_path / "real.parquet")
    read = read_manifest("real", tmp_path / "real.parquet").sort_values("image_id", ignore_index=True)
    written = real_rows().sort_values("image_id", ignore_index=True)
    assert read["label_name"].tolist() == written["label_name"].tolist()
    assert read["row"].isna().tolist() == written["row"].isna().tolist()
    assert read["reason"].isna().tolist() == written["reason"].isna().tolist()
    assert not isinstance(read["label_name"].dtype, pd.CategoricalDtype)


def test_columns_of_faults_are_in_the_file_only_if_they_were_looked_for(tmp_path):
    columns = ["label_quality", "suggested_label", "outlier_score", "duplicate_of", "leak_of"]
    write_manifest("real", real_rows(), tmp_path / "a.parquet")
    assert not set(columns) & set(pq.read_schema(tmp_path / "a.parquet").names)
    assert read_manifest("real", tmp_path / "a.parquet")[columns].isna().all(axis=None)
    rows = real_rows().assign(label_quality=0.25, suggested_label=None)
    write_manifest("real", rows, tmp_path / "b.parquet")
    assert set(columns) <= set(pq.read_schema(tmp_path / "b.parquet").names)
    write_manifest("real", read_manifest("real", tmp_path / "b.parquet"), tmp_path / "c.parquet")
    assert (tmp_path / "b.parquet").read_bytes() == (tmp_path / "c.parquet").read_bytes()


def test_read_and_written_again_gives_the_same_bytes(tmp_path):
    write_manifest("real", real_rows(), tmp_path / "a.parquet")
    write_manifest("real", read_manifest("real", tmp_path / "a.parquet"), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (real_rows().assign(surprise=1), "surprise"),
        (real_rows().drop(columns="sha256"), "sha256"),
        (real_rows().assign(label_name=None), "label_name"),
    ],
)
def test_refused_rows_leave_the_old_file_unchanged(tmp_path, rows, message):
    write_manifest("real", real_rows(), tmp_path / "real.parquet")
    before = (tmp_path / "real.parquet").read_bytes()
    with pytest.raises(ValueError, match=message):
        write_manifest("real", rows, tmp_path / "real.parquet")
    assert (tmp_path / "real.parquet").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["real.parquet"]


def test_integers_that_were_rounded_to_floats_are_refused(tmp_path):
    rows = real_rows()
    write_manifest("real", rows.assign(row=rows["row"].astype("float64")), tmp_path / "real.parquet")  # small: exact
    with pytest.raises(ValueError, match="row holds floats too large to be exact integers; they were rounded"):
        write_manifest("real", rows.assign(row=2.0**60), tmp_path / "other.parquet")
    assert not (tmp_path / "other.parquet").exists()


@pytest.fixture
def row_groups_of_100(monkeypatch):
    monkeypatch.setattr("synaug.manifests.tables.ROW_GROUP", 100)


@pytest.fixture
def many_rows(tmp_path) -> pa.Table:
    """250 rows of the manifest `real` in its order."""
    write_manifest("real", real_rows(250), tmp_path / "sorted.parquet")
    return pq.read_table(tmp_path / "sorted.parquet").replace_schema_metadata()


@pytest.mark.parametrize("size", [1, 7, 99, 100, 101, 250])
def test_batches_of_another_size_give_the_same_bytes(tmp_path, many_rows, row_groups_of_100, size):
    write_manifest("real", real_rows(250), tmp_path / "whole.parquet")
    batches = [many_rows.slice(start, size) for start in range(0, 250, size)]
    write_sorted("real", batches, 250, tmp_path / "batches.parquet")
    assert (tmp_path / "batches.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    groups = pq.read_metadata(tmp_path / "batches.parquet")
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [100, 100, 50]


def test_dictionaries_that_differ_between_batches_are_the_same_column(tmp_path, many_rows, row_groups_of_100):
    write_sorted("real", [many_rows], 250, tmp_path / "one.parquet")
    names = many_rows.column("label_name").to_pylist()
    batches = [
        many_rows.slice(start, 50).set_column(
            many_rows.schema.get_field_index("label_name"), "label_name", pa.array(names[start : start + 50][::-1])
            .dictionary_encode().take(pa.array(range(49, -1, -1))),
        )
        for start in range(0, 250, 50)
    ]  # fmt: skip
    write_sorted("real", batches, 250, tmp_path / "two.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


@pytest.mark.parametrize("swapped", [(0, 1), (99, 100), (120, 240)])  # also two rows of different row groups
def test_batches_that_are_not_in_order_are_refused(tmp_path, many_rows, row_groups_of_100, swapped):
    path, order = tmp_path / "real.parquet", np.arange(250)
    path.write_text("old")
    order[list(swapped)] = order[list(swapped)][::-1]
    unsorted = many_rows.take(order)
    with pytest.raises(ValueError, match="manifest 'real': the rows are not sorted by split, label, image_id"):
        write_sorted("real", [unsorted.slice(0, 99), unsorted.slice(99)], 250, path)
    assert path.read_text() == "old"


@pytest.mark.parametrize("announced", [0, 249, 251])
def test_rows_that_are_missing_are_noticed(tmp_path, many_rows, row_groups_of_100, announced):
    with pytest.raises(ValueError, match=f"{announced} rows were announced, but there are 250"):
        write_sorted("real", [many_rows], announced, tmp_path / "real.parquet")
    assert not (tmp_path / "real.parquet").exists()


def test_another_program_that_writes_the_rows_again_keeps_the_digest(tmp_path, many_rows):
    write_sorted("real", [many_rows], 250, tmp_path / "real.parquet")
    rows = pq.read_table(tmp_path / "real.parquet")
    pq.write_table(rows.slice(1), tmp_path / "changed.parquet")
    assert content_fault(tmp_path / "real.parquet") is None
    assert content_fault(tmp_path / "changed.parquet") == "does not hold what was written to it"


def test_an_interrupted_write_leaves_only_the_old_file(tmp_path):
    target = tmp_path / "table.parquet"
    target.write_text("old")
    with pytest.raises(OSError, match="disk full"), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("content", [None, b"", b"PAR1 but not really", "folder", "other table"])
def test_an_unreadable_manifest_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "real.parquet"
    if content == "folder":
        path.mkdir()
    elif content == "other table":
        pq.write_table(pa.table({"x": [1]}), path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_manifest("real", path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_truncated_manifest_is_a_user_error(tmp_path):
    path = tmp_path / "real.parquet"
    write_manifest("real", real_rows(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="delete it and run again"):
        read_manifest("real", path)


@pytest.mark.parametrize("damage", range(3))
def test_a_manifest_damaged_in_the_middle_is_a_user_error(tmp_path, damage):
    path = tmp_path / "real.parquet"
    write_manifest("real", real_rows(), path)
    data = bytearray(path.read_bytes())
    data[4 + 40 * damage : 44 + 40 * damage] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"real\.parquet"):
        read_manifest("real", path)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_column_is_described(kind):
    assert all((field.metadata or {}).get(b"about") for field in SCHEMAS[kind])


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_manifest_without_rows_can_be_written_and_read(tmp_path, kind):
    write_manifest(kind, pd.DataFrame(columns=SCHEMAS[kind].names), tmp_path / "empty.parquet")
    assert len(read_manifest(kind, tmp_path / "empty.parquet")) == 0


def test_a_shard_stores_images_uncompressed_and_declares_them_to_other_tools(tmp_path, shard_rows):
    write_manifest("shard", shard_rows, tmp_path / "shard.parquet")
    file = pq.ParquetFile(tmp_path / "shard.parquet")
    group = file.metadata.row_group(0)
    chunks = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert chunks["image.bytes"].compression == "UNCOMPRESSED"
    assert "PLAIN" in chunks["image.bytes"].encodings
    assert not any("DICTIONARY" in encoding for encoding in chunks["image.bytes"].encodings)
    assert not chunks["image.bytes"].has_dictionary_page
    features = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    # The bytes of an encoded image are in the file unchanged.
    assert shard_rows["image"][0]["bytes"] in (tmp_path / "shard.parquet").read_bytes()


@pytest.fixture
def shard_rows(pngs) -> pd.DataFrame:
    rows = pd.DataFrame({"image": [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(pngs[:3])]})
    fixed = dict.fromkeys(SCHEMAS["shard"].names[1:], "x") | {"source_image": None}
    numbers = {f.name: 1 for f in SCHEMAS["shard"] if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)}
    return rows.assign(**(fixed | numbers))


def test_the_classes_are_those_of_usable_images():
    real = pd.DataFrame(
        {
            "label": [1, -1, 0, 1, 0],
            "label_name": ["dog", "", "cat", "dog", "cat"],
            "usable": [True, False, False, False, True],
        }
    )
    assert class_names(real) == ["cat", "dog"]


def test_local_paths_of_stored_images_and_logical_paths_of_the_others(tmp_path):
    """With a storage, the job's copies are below the folder that holds the copy of results/."""
    for name in ("results/test/a.parquet", "data/b.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    rows = real_rows(3).assign(path=["results/test/a.parquet", "data/b.parquet", "elsewhere/c.parquet"])
    write_manifest("real", rows, tmp_path / "results/test/real.parquet")
    local = read_with_local_paths("real", tmp_path / "results/test/real.parquet")
    expected = {f"{tmp_path}/results/test/a.parquet", f"{tmp_path}/data/b.parquet", "elsewhere/c.parquet"}
    assert set(local["path"]) == expected
