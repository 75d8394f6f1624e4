"""Images listed in text files, as ImageNet-LT is published."""

from pathlib import Path

import pytest
from layouts import WORDNET_IDS, one_line_error, write_lists

from synaug.config import Dataset, load_config
from synaug.datasets import fingerprint, index_dataset, input_files
from synaug.manifests import write_manifest


@pytest.fixture
def lists(tmp_path, pngs):
    """A function: changed keys of the config to the data set of three classes in two lists."""
    named = write_lists(tmp_path, pngs)

    def make(**settings) -> Dataset:
        return Dataset(**{"source": "image_list", "path": str(tmp_path), "image_size": 28, "lists": named, **settings})

    return make


def write(path: Path, *lines: str) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def test_lists_become_a_manifest(lists, tmp_path):
    real = index_dataset(lists())
    write_manifest("real", real, tmp_path / "real.parquet")
    counts = real.groupby(["split", "label_name"]).size().to_dict()
    assert counts == {("train", "0"): 3, ("train", "1"): 2, ("train", "2"): 1} | {("test", c): 1 for c in "012"}
    assert real["usable"].all() and real["row"].isna().all()
    assert input_files(lists()) == [str(tmp_path / "train.txt"), str(tmp_path / "test.txt")]


def test_names_by_line_and_by_wordnet_id(lists, tmp_path):
    by_line = write(tmp_path / "line.txt", "tench", "goldfish", "great white shark")
    by_id = write(
        tmp_path / "id.txt",
        *(f"{wordnet_id} {name}" for wordnet_id, name in zip(WORDNET_IDS[::-1], "cba", strict=True)),
    )
    assert set(index_dataset(lists(class_names=by_line))["label_name"]) == {"tench", "goldfish", "great white shark"}
    real = index_dataset(lists(class_names=by_id))
    assert real.groupby("label_name").size().to_dict() == {"a": 4, "b": 3, "c": 2}
    assert input_files(lists(class_names=by_id))[2:] == [by_id]


def test_a_byte_order_mark_is_no_part_of_a_path_or_a_name(lists, tmp_path):
    plain = index_dataset(lists())
    names = write(tmp_path / "names.txt", "\ufefftench", "goldfish", "shark\u2028with a line separator")
    classes = write(tmp_path / "classes.txt", "\ufeff0", "1", "2")
    for split in ("train", "test"):
        file = tmp_path / f"{split}.txt"
        file.write_text("\ufeff" + file.read_text(), encoding="utf-8")
    real = index_dataset(lists(class_names=names, classes=classes))
    assert real["path"].tolist() == plain["path"].tolist() and real["usable"].all()
    assert set(real["label_name"]) == {"tench", "goldfish", "shark\u2028with a line separator"}


@pytest.mark.parametrize("chosen", [["0", "2"], [WORDNET_IDS[2], WORDNET_IDS[0]]])
def test_rows_of_other_classes_are_left_out_and_labels_numbered_again(lists, tmp_path, chosen):
    classes = write(tmp_path / "classes.txt", *chosen)
    real = index_dataset(lists(classes=classes))
    assert dict(zip(real["label_name"], real["label"], strict=True)) == {"0": 0, "2": 1}
    assert input_files(lists(classes=classes))[2:] == [classes]


@pytest.mark.parametrize("line", ["train/1.JPEG", "train/1.JPEG one", "7", "train/1.JPEG -1"])
def test_a_bad_line_is_named_by_its_number(lists, tmp_path, line):
    with (tmp_path / "train.txt").open("a") as file:
        file.write(f"\n{line}\n")
    message = one_line_error(index_dataset, lists())
    assert "train.txt: line 8" in message and line in message


def test_listed_files_that_are_missing_or_outside_the_folder_are_rows_with_a_reason(lists, tmp_path):
    with (tmp_path / "train.txt").open("a") as file:
        file.write("train/gone.JPEG 0\n../outside.JPEG 0\n")
    reasons = index_dataset(lists())["reason"].dropna().tolist()
    assert len(reasons) == 2
    assert "No such file" in reasons[0] and "outside" in reasons[1]


def test_a_list_of_a_split_that_is_not_used_is_not_read(lists, tmp_path):
    plain, files = index_dataset(lists()), fingerprint(lists())
    named = {**lists().lists, "extra": write(tmp_path / "extra.txt", "no line of a list", "extra/1.JPEG 9")}
    assert index_dataset(lists(lists=named)).equals(plain) and fingerprint(lists(lists=named)) == files
    assert input_files(lists(lists=named)) == input_files(lists())


def test_backslashes_of_windows_separate_folders(lists, tmp_path):
    plain, files = index_dataset(lists()), fingerprint(lists())
    for split in ("train", "test"):
        file = tmp_path / f"{split}.txt"
        file.write_text(file.read_text().replace("/", "\\"))
    assert index_dataset(lists()).equals(plain) and fingerprint(lists()) == files
    write(tmp_path / "ids.txt", *WORDNET_IDS)
    assert len(index_dataset(lists(classes=str(tmp_path / "ids.txt")))) == len(plain)


def test_errors_in_the_text_files_are_named(lists, tmp_path):
    two = write(tmp_path / "two.txt", "crane", "fish", "crane")
    assert "classes 0 and 2 are both called 'crane'" in one_line_error(index_dataset, lists(class_names=two))
    assert "no class 2 (n01484850)" in one_line_error(
        index_dataset, lists(class_names=write(tmp_path / "few.txt", "a", "b"))
    )
    mixed = write(tmp_path / "mixed.txt", f"{WORDNET_IDS[0]} a", "b")
    assert "mixed.txt: line 2" in one_line_error(index_dataset, lists(class_names=mixed))
    other = write(tmp_path / "other.txt", "0", "n99999999")
    assert "other.txt: line 2" in one_line_error(index_dataset, lists(classes=other))
    assert "gone.txt does not exist" in one_line_error(input_files, lists(classes="gone.txt"))
    assert "is not a folder" in one_line_error(input_files, lists(path=str(tmp_path / "nowhere")))
    with (tmp_path / "test.txt").open("a") as file:
        file.write(f"val/{WORDNET_IDS[1]}/0.JPEG 0\n")
    assert "class 0 is n01443537 here and n01440764 elsewhere" in one_line_error(index_dataset, lists())


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"source": "image_list"}, "lists is needed with source: image_list"),
        ({"source": "table", "lists": {"train": "a", "test": "b"}}, "lists is for source: image_list"),
        ({"source": "image_list", "lists": {"train": "a"}}, "lists needs a file for each of train, test"),
        ({"source": "folder", "classes": "a"}, "classes is for source: image_list"),
        ({"source": "table", "download": True}, "download is for source: cifar10"),
        ({"source": "cifar10", "largest_class": 5}, "no effect without imbalance_factor"),
        ({"source": "cifar10", "imbalance_factor": 0.01}, "dataset.imbalance_factor"),
    ],
)
def test_keys_that_do_not_fit_the_source(block, message):
    config = {"experiment": "e", "generation": {"model": "m"}, "recipes": {"plain": {"data": "real"}}}
    assert message in one_line_error(load_config, {**config, "dataset": {"path": "d", "image_size": 32, **block}})
