"""Links outside the data set's folder, as git-annex, DVC and datalad make them: refused, or followed on demand."""

import os
from pathlib import Path

import pytest
from layouts import one_line_error, write_csv, write_lists

from synaug.config import Dataset
from synaug.datasets import fingerprint, index_dataset
from synaug.images.store import load_pixels

SMALL = {"train/shirt": 3, "train/bag": 2, "test/shirt": 2, "test/bag": 2}


def folder(path, **settings) -> Dataset:
    return Dataset(source="folder", path=str(path), image_size=28, color="grey", **settings)


def annexed(path: Path, cache: Path) -> list[Path]:
    """Replace all files below `path` by links to a cache, as git-annex does. Returns the files in the cache."""
    cache.mkdir()
    files = []
    for number, file in enumerate(sorted(path.rglob("*.png"))):
        files.append(file.rename(cache / f"SHA256E-s{number}"))
        file.symlink_to(os.path.relpath(files[-1], file.parent))
    return files


def test_links_are_followed_on_demand_and_their_targets_recorded(image_folder, tmp_path):
    path = image_folder(SMALL)
    plain = index_dataset(folder(path))
    cache = annexed(path, tmp_path / "cache")
    message = one_line_error(index_dataset, folder(path))
    assert "dataset.follow_links" in message
    linked = index_dataset(folder(path, follow_links=True))
    assert linked["usable"].all()
    assert linked["image_id"].tolist() == plain["image_id"].tolist()
    assert linked["label_name"].tolist() == plain["label_name"].tolist()
    assert sorted(linked["path"]) == sorted(map(str, cache))
    assert load_pixels(linked, 28, "grey").any()


def test_a_changed_target_changes_the_fingerprint(image_folder, tmp_path):
    path = image_folder(SMALL)
    cache = annexed(path, tmp_path / "cache")
    before = fingerprint(folder(path, follow_links=True))
    os.utime(cache[0], ns=(1, 1))
    assert fingerprint(folder(path, follow_links=True)) != before


@pytest.mark.parametrize("linked", ["train", "train/bag"])
def test_linked_folders_are_followed_on_demand(image_folder, tmp_path, linked):
    path = image_folder(SMALL)
    plain = index_dataset(folder(path))
    (path / linked).rename(tmp_path / "elsewhere")
    (path / linked).symlink_to(tmp_path / "elsewhere")
    message = one_line_error(index_dataset, folder(path))
    assert "dataset.follow_links" in message and "link or copy" not in message
    assert index_dataset(folder(path, follow_links=True))["image_id"].tolist() == plain["image_id"].tolist()


def test_folders_that_contain_themselves_end(image_folder):
    path = image_folder(SMALL)
    (path / "train/bag/again").symlink_to(path / "train/shirt")
    (path / "train/shirt/back").symlink_to(path / "train/bag")
    message = one_line_error(index_dataset, folder(path, follow_links=True))
    assert "is a link to a folder that contains it" in message
    assert fingerprint(folder(path, follow_links=True))


def test_a_path_that_leaves_the_folder_is_never_read(tmp_path, pngs):
    (tmp_path / "secret.png").write_bytes(pngs[50])
    (tmp_path / "inside").mkdir()
    csv = write_csv(tmp_path / "inside", pngs, ["a", "b", "a", "b"], ["train", "train", "test", "test"])
    csv.write_text(csv.read_text() + f"../secret.png,a,train\n{tmp_path}/secret.png,a,train\n")
    rows = index_dataset(Dataset(source="table", path=str(csv), image_size=28, follow_links=True))
    assert rows["usable"].tolist() == [True] * 4 + [False] * 2
    assert not rows["reason"].str.contains("follow_links").any()  # which would not help


@pytest.mark.parametrize("source", ["csv", "image_list"])
def test_lists_may_name_links(tmp_path, pngs, source):
    data = tmp_path / "data"
    data.mkdir()
    if source == "csv":
        path = write_csv(data, pngs, ["a", "b", "a", "b"], ["train", "train", "test", "test"])
        settings = {"source": "table", "path": str(path)}
    else:
        settings = {"source": "image_list", "lists": write_lists(data, pngs), "path": str(data)}
    (tmp_path / "cache").mkdir()
    for number, file in enumerate([*data.rglob("*.png"), *data.rglob("*.JPEG")]):
        file.rename(tmp_path / "cache" / str(number))
        file.symlink_to(tmp_path / "cache" / str(number))
    assert index_dataset(Dataset(image_size=28, follow_links=True, **settings))["usable"].all()
