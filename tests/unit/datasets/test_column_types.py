"""Tables of other writers: every layout of texts and bytes in Arrow, paths in structs, several labels an image."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layouts import converted, one_line_error, write_arrow, write_csv

from synaug.config import Dataset
from synaug.datasets import index_dataset
from synaug.images.store import load_pixels

LABELS, SPLITS = ["cat", "dog", "cat", "dog"], ["train", "train", "test", "test"]
TEXTS = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int8(), pa.string()),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "binary_view": pa.binary_view(),
    "dictionary of bytes": pa.dictionary(pa.int8(), pa.binary()),
}
BINARIES = {"binary": pa.binary(), "large_binary": pa.large_binary(), "binary_view": pa.binary_view()}


def table(folder, columns: dict, **settings) -> Dataset:
    pq.write_table(pa.table(columns), folder / "t.parquet")
    return Dataset(source="table", path=str(folder / "t.parquet"), image_size=28, **settings)


def arrow(folder, columns: dict, **settings) -> Dataset:
    write_arrow(folder / "set" / "data-00000-of-00001.arrow", pa.table(columns))
    settings = {"make_splits": {"test": 0.5}} | settings
    return Dataset(source="huggingface", path=str(folder / "set"), image_size=28, **settings)


def text_array(values: list[str], name: str) -> pa.Array:
    data_type = TEXTS[name]
    is_bytes = "binary" in str(data_type)
    if pa.types.is_dictionary(data_type):
        return pa.array([value.encode() for value in values] if is_bytes else values).dictionary_encode()
    return pa.array([value.encode() for value in values] if is_bytes else values, data_type)


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_any_layout_are_classes_groups_and_splits(tmp_path, pngs, name):
    columns = {"label": text_array(LABELS, name), "split": text_array(SPLITS, name)}
    columns |= {"where": text_array(["in", "out", "out", "in"], name), "image": pa.array(pngs[:4])}
    rows = index_dataset(table(tmp_path, columns, group_columns=["where"]))
    assert rows["label_name"].tolist() == LABELS and rows["split"].tolist() == SPLITS
    assert rows["group"].tolist() == ["in", "out", "out", "in"]
    rows = converted(arrow(tmp_path, columns), tmp_path)
    assert set(rows["label_name"]) == {"cat", "dog"}


@pytest.mark.parametrize("name", [*BINARIES, "dictionary"])
def test_images_of_any_layout_are_read(tmp_path, pngs, name):
    images = pa.array(pngs[:4]).dictionary_encode() if name == "dictionary" else pa.array(pngs[:4], BINARIES[name])
    rows = index_dataset(table(tmp_path, {"label": LABELS, "split": SPLITS, "image": images}))
    assert rows["usable"].all() and load_pixels(rows, 28, "grey").any()


@pytest.mark.parametrize("name", ["string", "large_string", "string_view", "dictionary"])
def test_paths_of_any_layout_are_read(tmp_path, pngs, name):
    write_csv(tmp_path, pngs, LABELS, SPLITS)
    paths = text_array([f"images/{number}.png" for number in range(4)], name)
    rows = index_dataset(table(tmp_path, {"label": LABELS, "split": SPLITS, "image": paths}))
    assert rows["usable"].all() and rows["row"].isna().all()


@pytest.mark.parametrize("bytes_of", [None, [], [1, 2]])
def test_a_struct_may_hold_a_path_instead_of_the_bytes(tmp_path, pngs, bytes_of):
    """bytes_of: rows whose image is embedded; None: the struct has a path only."""
    write_csv(tmp_path, pngs, LABELS, SPLITS)
    images = [{"path": f"images/{number}.png"} for number in range(4)]
    for number, image in enumerate(images if bytes_of is not None else ()):
        image["bytes"] = pngs[number] if number in bytes_of else None
    if bytes_of == []:
        images = pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    rows = index_dataset(table(tmp_path, {"label": LABELS, "split": SPLITS, "image": images}))
    assert rows["usable"].all()
    assert rows["row"].notna().sum() == len(bytes_of or [])
    embedded = index_dataset(table(tmp_path, {"label": LABELS, "split": SPLITS, "image": pngs[:4]}))
    assert rows["image_id"].tolist() == embedded["image_id"].tolist()


def test_a_hugging_face_data_set_may_hold_paths(tmp_path, pngs):
    (tmp_path / "set").mkdir()
    write_csv(tmp_path / "set", pngs, LABELS, SPLITS)
    images = [{"bytes": None, "path": f"images/{number}.png"} for number in range(3)] + [{"bytes": pngs[3], "path": ""}]
    rows = converted(arrow(tmp_path, {"image": images, "label": LABELS}), tmp_path)
    assert rows["usable"].all()


def test_a_file_of_a_hugging_face_data_set_that_cannot_be_read_has_a_reason(tmp_path, pngs):
    (tmp_path / "set").mkdir()
    write_csv(tmp_path / "set", pngs, LABELS, SPLITS)
    (tmp_path / "secret.png").write_bytes(pngs[9])
    images = [{"bytes": data, "path": None} for data in pngs[:4]]
    images += [{"bytes": None, "path": name} for name in ("gone.png", "../secret.png", "images")]
    rows = converted(arrow(tmp_path, {"image": images, "label": [*LABELS, "cat", "dog", "cat"]}), tmp_path)
    assert rows["reason"].dropna().tolist() == [
        "cannot be read (No such file or directory)",
        "lies outside the data set's folder (for a table, the folder that it is in)",
        "cannot be read (Is a directory)",
    ]


def test_a_path_in_a_struct_may_not_leave_the_folder(tmp_path, pngs):
    (tmp_path / "secret.png").write_bytes(pngs[9])
    (tmp_path / "inside").mkdir()
    images = [{"bytes": data, "path": None} for data in pngs[:4]] + [{"bytes": None, "path": "../secret.png"}]
    rows = index_dataset(
        table(tmp_path / "inside", {"label": [*LABELS, "cat"], "split": [*SPLITS, "train"], "image": images})
    )
    assert rows["usable"].tolist() == [True] * 4 + [False] and "outside" in rows["reason"].iloc[-1]


LISTS = {
    "list": pa.array([[0, 1], [1], [0], [1]]),
    "large_list": pa.array([["a"], ["b"], ["a"], ["b"]], pa.large_list(pa.string())),
    "fixed_size_list": pa.array([[0, 1]] * 4, pa.list_(pa.int64(), 2)),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("column", ["label", "where"])
def test_several_labels_an_image_are_refused(tmp_path, pngs, name, column):
    columns = {"image": pngs[:4], "label": LABELS, "where": LABELS, "split": SPLITS} | {column: LISTS[name]}
    message = one_line_error(index_dataset, table(tmp_path, columns, group_columns=["where"]))
    assert f"t.parquet: column {column!r} holds several values for an image" in message
    message = one_line_error(converted, arrow(tmp_path, columns, group_columns=["where"]), tmp_path)
    assert f"column {column!r} holds several values for an image" in message


def test_a_struct_is_no_class(tmp_path, pngs):
    columns = {"image": pngs[:4], "label": [{"id": 1}] * 4, "split": SPLITS}
    assert "column 'label' holds struct<id: int64>" in one_line_error(index_dataset, table(tmp_path, columns))


def test_bytes_that_are_no_text_are_no_class(tmp_path, pngs):
    columns = {"image": pngs[:4], "label": [b"cat", b"dog", b"\xff\xfe", b"dog"], "split": SPLITS}
    assert "row 2 is b'\\xff\\xfe', which is not UTF-8" in one_line_error(index_dataset, table(tmp_path, columns))


def test_a_large_number_is_not_rounded(tmp_path, pngs):
    numbers = [2**53 + 1, 2**53 + 2, 2**53 + 1, 2**53 + 2, None]
    columns = {"image": pngs[:5], "label": ["a", "b"] * 2 + ["a"], "split": [*SPLITS, "train"], "where": numbers}
    message = one_line_error(index_dataset, table(tmp_path, columns, group_columns=["where"]))
    assert "row 4 has no where" in message
    rows = index_dataset(table(tmp_path, {**columns, "where": [*numbers[:4], 1]}, group_columns=["where"]))
    assert rows["group"].tolist()[:2] == [str(2**53 + 1), str(2**53 + 2)]


def test_a_caption_of_several_lines_in_a_large_csv(tmp_path, pngs):
    """Larger than the block that the CSV reader takes at once, with a line break in most rows."""
    path = write_csv(tmp_path, pngs, LABELS, SPLITS)
    caption = '"' + "\n".join(["a line of a caption, with a comma"] * 2000) + '"'
    lines = path.read_text().splitlines()
    text = [lines[0] + ",caption", *(f"{line},{caption}" for line in lines[1:] * 35)]
    path.write_text("\n".join(text) + "\n")
    assert path.stat().st_size > 9e6
    rows = index_dataset(Dataset(source="table", path=str(path), image_size=28))
    assert len(rows) == 140 and rows["usable"].all()


def test_a_nested_column_of_json_lines_that_is_not_used(tmp_path, pngs):
    write_csv(tmp_path, pngs, LABELS, SPLITS)
    lines = [
        {"image": f"images/{number}.png", "label": label, "split": split, "boxes": [[1, 2]], "more": {"a": {"b": 1}}}
        for number, (label, split) in enumerate(zip(LABELS, SPLITS, strict=True))
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    dataset = Dataset(source="table", path=str(tmp_path / "t.jsonl"), image_size=28)
    assert index_dataset(dataset)["usable"].all()
    message = one_line_error(index_dataset, dataset.model_copy(update={"label_column": "boxes"}))
    assert "line 1: 'boxes' should be one text or number, not [[" in message


@pytest.mark.parametrize(
    ("values", "names"), [([0.5, 2.0], {"0.5", "2.0"}), ([1.0, 2.0], {"1", "2"}), ([True, False], {"True", "False"})]
)
def test_numbers_and_truth_values_keep_their_text(tmp_path, pngs, values, names):
    columns = {"image": pngs[:4], "label": values * 2, "split": SPLITS}
    assert set(index_dataset(table(tmp_path, columns))["label_name"]) == names
