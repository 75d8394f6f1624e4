"""Images in tables: Parquet with embedded images, CSV and JSON lines with paths; problems of the tables are named."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layouts import one_line_error, write_csv, write_parquet

from synaug.config import Dataset
from synaug.datasets import fingerprint, index_dataset, input_files
from synaug.images.codec import decode_image
from synaug.images.store import load_pixels
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.errors import UserError


def table(path, **settings) -> Dataset:
    return Dataset(source="table", path=str(path), image_size=28, color="grey", **settings)


def index(path, **settings) -> pd.DataFrame:
    return index_dataset(table(path, **settings))


def error(path, **settings) -> str:
    return one_line_error(index_dataset, table(path, **settings))


def test_a_table_with_embedded_images(tmp_path, pngs):
    rows = index(write_parquet(tmp_path / "t.parquet", pngs, ["b", "a"] * 4))
    assert rows["usable"].all()
    assert rows["row"].tolist() == list(range(8))
    assert input_files(table(tmp_path / "t.parquet")) == [str(tmp_path / "t.parquet")]


@pytest.mark.parametrize("column", ["image", "picture"])
def test_images_can_be_loaded_whatever_their_column_is_called(tmp_path, pngs, column):
    path = write_parquet(tmp_path / "t.parquet", pngs, ["a", "b"] * 3)
    pq.write_table(pq.read_table(path).rename_columns({"image": column}), path)
    rows = index(path, image_column=column)
    write_manifest("real", rows, tmp_path / "real.parquet")
    real = read_manifest("real", tmp_path / "real.parquet").sort_values("row")
    expected = np.stack([decode_image(data, 28, "grey") for data in pngs[:6]])
    assert np.array_equal(load_pixels(real, 28, "grey"), expected)


def test_a_column_of_plain_bytes_works_or_says_what_is_needed(tmp_path, pngs):
    splits = ["train", "train", "test", "test"]
    pq.write_table(pa.table({"image": pngs[:4], "label": ["a", "b"] * 2, "split": splits}), tmp_path / "t.parquet")
    try:
        rows = index(tmp_path / "t.parquet")
    except UserError as error:
        assert "image" in str(error)
    else:
        assert rows["usable"].all()
        assert load_pixels(rows, 28, "grey").any()


def test_a_duplicate_column_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("image,label,split,label\n1.png,a,train,b\n")
    assert "t.csv: has 2 columns 'label'; rename all but one" in error(tmp_path / "t.csv")


def test_a_csv_with_other_separators_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("image;label;split\n1.png;cat, asleep;train\n")
    assert "t.csv: its columns are separated by ';'; save it with commas" in error(tmp_path / "t.csv")


@pytest.mark.parametrize("header", ["image,label,split", "image,label,split,Größe"])
def test_a_csv_that_excel_saved_without_unicode_is_named(tmp_path, header):
    (tmp_path / "t.csv").write_bytes(f"{header}\n1.png,Kätzchen,train\n".encode("cp1252"))
    assert "t.csv: is not UTF-8 text; save it as UTF-8 (in Excel: CSV UTF-8)" in error(tmp_path / "t.csv")


def test_json_lines_that_are_not_unicode_are_named(tmp_path):
    (tmp_path / "t.jsonl").write_bytes('{"image": "1.png", "label": "Kätzchen"}\n'.encode("cp1252"))
    assert "t.jsonl: is not UTF-8 text; save it as UTF-8" in error(tmp_path / "t.jsonl")


def test_a_csv_with_paths_relative_to_it_gives_the_ids_of_embedded_images(tmp_path, pngs):
    labels, splits = ["x", "y"] * 3, ["train"] * 4 + ["test"] * 2
    from_csv = index(write_csv(tmp_path, pngs, labels, splits))
    embedded = index(write_parquet(tmp_path / "t.parquet", pngs, labels, splits))
    assert from_csv["usable"].all()
    assert from_csv["image_id"].tolist() == embedded["image_id"].tolist()


def test_a_missing_table_or_split_is_named(tmp_path, pngs):
    assert "nowhere" in error(tmp_path / "nowhere.parquet")
    assert "'test'" in error(write_parquet(tmp_path / "t.parquet", pngs, ["a", "b"] * 2, ["train"] * 4))


@pytest.mark.parametrize("key", ["label_column", "split_column", "image_column"])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_missing_column_is_named_with_the_columns_of_the_table(tmp_path, pngs, key, kind):
    labels, splits = ["a", "b"] * 2, ["train", "train", "test", "test"]
    path = write_parquet(tmp_path / "t.parquet", pngs, labels, splits)
    path = path if kind == "parquet" else write_csv(tmp_path, pngs, labels, splits)
    message = error(path, **{key: "klass"})
    assert "'klass'" in message
    assert "image, label, split" in message
    assert f"dataset.{key}" in message


@pytest.mark.parametrize("empty", [None, "", "  "])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_row_without_a_label_is_named(tmp_path, pngs, empty, kind):
    labels, splits = ["a", "b", empty, "b"], ["train", "train", "test", "test"]
    write = write_csv if kind == "csv" else lambda folder, *rest: write_parquet(folder / "t.parquet", *rest)
    assert "row 2 has no label (the first row below a header is 0)" in error(write(tmp_path, pngs, labels, splits))


@pytest.mark.parametrize("content", [b"", b"not a table"])
@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_an_unreadable_table_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert name in error(tmp_path / name)


def test_unusable_images_of_a_table_are_rows_with_a_reason(tmp_path, pngs):
    images = [*pngs[:4], b"", b"text"]
    path = write_parquet(tmp_path / "t.parquet", images, ["a", "b"] * 3, ["train", "train", "test"] + ["test"] * 3)
    rows = index(path)
    assert rows["usable"].tolist() == [True] * 4 + [False] * 2
    assert rows["reason"].notna().tolist() == [False] * 4 + [True] * 2


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_class_name_may_hold_a_slash(tmp_path, pngs, kind):
    labels, splits = ["T-shirt/top", "z"] * 2, ["train", "train", "test", "test"]
    write = write_csv if kind == "csv" else lambda folder, *rest: write_parquet(folder / "t.parquet", *rest)
    assert "T-shirt/top" in set(index(write(tmp_path, pngs, labels, splits))["label_name"])


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "images/../../secret.png"])
def test_a_path_outside_the_folder_of_the_table_is_not_read(tmp_path, pngs, path):
    (tmp_path / "secret.png").write_bytes(pngs[50])
    (tmp_path / "inside").mkdir()
    csv = write_csv(tmp_path / "inside", pngs, ["a", "b", "a", "b"], ["train", "train", "test", "test"])
    csv.write_text(csv.read_text() + f"{path},a,train\n")
    rows = index(csv)
    assert rows["usable"].tolist() == [True] * 4 + [False]
    assert rows["reason"].iloc[-1] == "lies outside the data set's folder (for a table, the folder that it is in)"


def test_a_name_that_no_file_can_have_has_a_reason(tmp_path, pngs):
    csv = write_csv(tmp_path, pngs, ["a", "b"] * 2, ["train", "train", "test", "test"])
    rows = [*pd.read_csv(csv).to_dict("records"), {"image": "a\0b.png", "label": "a", "split": "train"}]
    (tmp_path / "t.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert index(tmp_path / "t.jsonl")["reason"].dropna().tolist() == ["has a name that no file can have"]


def test_backslashes_of_windows_separate_folders(tmp_path, pngs):
    csv = write_csv(tmp_path, pngs, ["a", "b"] * 2, ["train", "train", "test", "test"])
    (tmp_path / "images/0.png").rename(tmp_path / "a\\0.png")  # the file with this very name comes first
    plain = csv.read_text().replace("images/0.png", "a\\0.png")
    csv.write_text(plain)
    expected, files = index(csv), fingerprint(table(csv))
    csv.write_text(plain.replace("images/", "images\\") + "images\\gone.png,a,train\n..\\x.png,a,train\n")
    rows = index(csv)
    assert (
        rows["path"].tolist()[:4] == expected["path"].tolist() and rows["usable"].tolist() == [True] * 4 + [False] * 2
    )
    assert "No such file" in rows["reason"][4] and "outside the data set's folder" in rows["reason"][5]
    assert fingerprint(table(csv)) not in ("", files)
    csv.write_text(plain.replace("images/", "images\\"))
    assert fingerprint(table(csv)) == files


def test_labels_of_a_csv_stay_text(tmp_path, pngs):
    path = write_csv(tmp_path, pngs, ["007", "7", "007", "7"], ["train", "train", "test", "test"])
    assert set(index(path)["label_name"]) == {"007", "7"}


def test_an_apostrophe_that_keeps_a_spreadsheet_from_a_formula_is_no_part_of_a_class(tmp_path, pngs):
    path = write_csv(tmp_path, pngs, ["'-1", "''=x", "'-1", "''=x", "'s"], ["train", "train", "test", "test", "train"])
    assert set(index(path)["label_name"]) == {"-1", "'=x", "'s"}


def write_files(folder, pngs, count) -> list[str]:
    for number in range(count):
        (folder / f"{number}.png").write_bytes(pngs[number])
    return [f"{number}.png" for number in range(count)]


def write_lines(folder, pngs, labels, **columns):
    """A file of JSON lines next to the images that it lists; every second line belongs to the test split."""
    with (folder / "data.jsonl").open("w") as file:
        for number, (path, label) in enumerate(zip(write_files(folder, pngs, len(labels)), labels, strict=True)):
            row = {"image": path, "label": label, "split": ["train", "test"][number % 2]}
            file.write(json.dumps(row | {name: values[number] for name, values in columns.items()}) + "\n")
    return folder / "data.jsonl"


def test_json_lines_are_a_table(tmp_path, pngs):
    rows = index(write_lines(tmp_path, pngs, ["007", "007", 7, 7, "7.50", "7.50"]))
    assert rows["usable"].all()
    assert rows.groupby("label_name").size().to_dict() == {"007": 2, "7": 2, "7.50": 2}
    assert load_pixels(rows, 28, "grey").std() > 0


def test_json_lines_have_groups(tmp_path, pngs):
    rows = index(write_lines(tmp_path, pngs, ["a", "a", "b", "b"], where=["in", "in", 3, 3]), group_columns=["where"])
    assert set(rows["group"]) == {"in", "3"}


@pytest.mark.parametrize("label", [None, "", " ", float("nan")])
def test_a_line_without_a_label_is_named(tmp_path, pngs, label):
    message = error(write_lines(tmp_path, pngs, ["a", "a", "b", label]))
    assert "data.jsonl: row 3 has no label" in message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"image": ', "line 5: is not JSON"),
        ('["a"]', "line 5: should be one object"),
        ('{"label": {"a": 1}}', "line 5"),
    ],
)
def test_a_line_that_is_not_an_object_of_texts_is_named(tmp_path, pngs, line, words):
    path = write_lines(tmp_path, pngs, ["a", "a", "b", "b"])
    path.write_text(path.read_text() + line + "\n")
    assert words in error(path)


def test_a_key_that_no_line_has_is_named(tmp_path, pngs):
    message = error(write_lines(tmp_path, pngs, ["a", "b"]), label_column="species")
    assert "'species'" in message and "image, label, split" in message and "dataset.label_column" in message


def test_a_row_without_a_path_is_a_row_with_a_reason(tmp_path, pngs):
    labels = ["a", "a", "b", "b", "b"]
    frame = pd.DataFrame(
        {"image": write_files(tmp_path, pngs, 5), "label": labels, "split": ["train", "test"] * 2 + ["test"]}
    )
    frame.loc[4, "image"] = None
    frame.to_csv(tmp_path / "data.csv", index=False)
    rows = index(tmp_path / "data.csv")
    assert rows["reason"].dropna().tolist() == ["the row names no file"]


def test_integers_that_pandas_reads_as_floats_are_integers_again(tmp_path, pngs):
    image = pa.array([{"bytes": data, "path": None} for data in pngs[:4]])
    pq.write_table(
        pa.table({"image": image, "label": [1.0, 1.0, 10.0, 10.0], "split": ["train", "test"] * 2}),
        tmp_path / "t.parquet",
    )
    assert set(index(tmp_path / "t.parquet")["label_name"]) == {"1", "10"}


def test_nan_is_a_missing_label(tmp_path, pngs):
    image = pa.array([{"bytes": data, "path": None} for data in pngs[:4]])
    labels = pa.array([1.0, 1.0, 2.0, float("nan")])
    pq.write_table(pa.table({"image": image, "label": labels, "split": ["train", "test"] * 2}), tmp_path / "t.parquet")
    assert "row 3 has no label" in error(tmp_path / "t.parquet")


def test_a_table_without_splits_says_how_to_make_them(tmp_path, pngs):
    frame = pd.DataFrame({"image": write_files(tmp_path, pngs, 4), "label": ["a", "a", "b", "b"]})
    frame.to_csv(tmp_path / "data.csv", index=False)
    assert "dataset.make_splits" in error(tmp_path / "data.csv")
    rows = index(tmp_path / "data.csv", make_splits={"test": 0.5})
    assert rows.groupby(["label_name", "split"]).size().tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("header", ["image,label,split", '"image","label","split"'])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path, pngs, kind, header):
    path = write_csv(tmp_path, pngs, ["a", "b"] * 2, ["train", "train", "test", "test"])
    if kind == "jsonl":
        lines = pd.read_csv(path).to_json(orient="records", lines=True)
        (tmp_path / "data.jsonl").write_text("\ufeff" + lines, encoding="utf-8")
    else:
        path.write_text("\ufeff" + path.read_text().replace("image,label,split", header), encoding="utf-8")
    assert index(tmp_path / f"data.{kind}")["usable"].all()
