"""Splits that the workflow makes: stratified, stable when images are added or removed, near-duplicates together."""

import io
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from synaug.config import Dataset
from synaug.datasets import index_dataset
from synaug.datasets.splits import make_splits, near_duplicates
from synaug.runtime.files import file_hash

COUNTS = {"shirt": 40, "bag": 20, "coat": 4, "boot": 2, "sandal": 1}


def dataset(path, source="folder", **settings) -> Dataset:
    settings = {"make_splits": {"test": 0.2}} | settings
    return Dataset(source=source, path=str(path), image_size=28, color="grey", **settings)


def splits(path, **settings) -> dict[str, str]:
    """Name of the image -> split."""
    rows = index_dataset(dataset(path, **settings))
    assert rows["usable"].all()
    return dict(zip(rows["path"].str.removeprefix(str(path)), rows["split"], strict=True))


def counts(path, **settings) -> dict[tuple, int]:
    rows = index_dataset(dataset(path, **settings))
    return rows.groupby(["label_name", "split"]).size().to_dict()


def test_every_class_is_divided_by_the_shares(image_folder):
    there = counts(image_folder(COUNTS), make_splits={"test": 0.2, "validation": 0.1}, validation_split="validation")
    assert there == {
        ("shirt", "train"): 28, ("shirt", "test"): 8, ("shirt", "validation"): 4,
        ("bag", "train"): 14, ("bag", "test"): 4, ("bag", "validation"): 2,
        ("coat", "train"): 3, ("coat", "test"): 1,
        ("boot", "train"): 1, ("boot", "test"): 1,
        ("sandal", "train"): 1,
    }  # fmt: skip


def test_every_group_of_a_class_is_divided_too(tmp_path, pngs):
    groups = ["inside", "outside", "outside", "outside"] * 20
    (tmp_path / "images").mkdir()
    for number in range(80):
        (tmp_path / "images" / f"{number}.png").write_bytes(pngs[number])
    labels = ["a", "a", "b", "b"] * 20
    frame = pd.DataFrame({"image": [f"images/{n}.png" for n in range(80)], "label": labels, "where": groups})
    frame.to_csv(tmp_path / "data.csv", index=False)
    rows = index_dataset(dataset(tmp_path / "data.csv", "table", group_columns=["where"], make_splits={"test": 0.25}))
    there = rows.groupby(["label_name", "group", "split"]).size().to_dict()
    assert there == {
        ("a", "inside", "test"): 5, ("a", "inside", "train"): 15,
        ("a", "outside", "test"): 5, ("a", "outside", "train"): 15,
        ("b", "outside", "test"): 10, ("b", "outside", "train"): 30,
    }  # fmt: skip


def test_the_names_and_the_order_of_images_do_not_matter(image_folder, tmp_path):
    path = image_folder({"shirt": 30, "bag": 10})
    before = index_dataset(dataset(path)).set_index("image_id")["split"]
    (path / "shirt").rename(path / "zz shirt")
    for number, file in enumerate(sorted((path / "bag").iterdir())):
        file.rename(path / "bag" / f"{100 - number}.x.png")
    after = index_dataset(dataset(path)).set_index("image_id")["split"]
    assert after.sort_index().to_dict() == before.sort_index().to_dict()


def test_additional_images_move_at_most_as_many_others(image_folder, pngs):
    path = image_folder({"shirt": 40, "bag": 20})
    before = splits(path)
    for number in range(1, 21):
        (path / "bag" / f"new-{number}.png").write_bytes(pngs[80 + number])
        after = splits(path)
        assert sum(after[name] != split for name, split in before.items()) <= number
        assert all(after[name] == split for name, split in before.items() if name.startswith("/shirt"))
    assert sum(after[name] != split for name, split in before.items()) <= 5  # far fewer, when it is many


def test_removed_images_move_at_most_as_many_others(image_folder):
    path = image_folder({"shirt": 40, "bag": 20})
    before = splits(path)
    for number in range(3):
        (path / "shirt" / f"{number}.png").unlink()
    after = splits(path)
    assert sum(before[name] != split for name, split in after.items()) <= 3


def variants(png: bytes) -> dict[str, bytes]:
    """Near-duplicates of an image: the same file, a JPEG, an enlarged JPEG."""
    image, files = Image.open(io.BytesIO(png)), {"copy.png": png}
    for name, variant in {"again.jpg": image, "large.jpg": image.resize((112, 112), Image.Resampling.BICUBIC)}.items():
        buffer = io.BytesIO()
        variant.save(buffer, "JPEG", quality=90)
        files[name] = buffer.getvalue()
    return files


def test_near_duplicates_are_in_the_same_split(image_folder, pngs):
    path = image_folder({"shirt": 40, "bag": 30})
    for number in range(30):
        for name, data in variants(pngs[40 + number]).items():
            (path / "bag" / f"{number}-{name}").write_bytes(data)
    (path / "shirt" / "bag.png").write_bytes(pngs[41])  # of another class, by mistake
    after = splits(path)
    for number in range(30):
        of_image = {
            split for name, split in after.items() if name.startswith((f"/bag/{number}-", f"/bag/{number}.png"))
        }
        assert len(of_image) == 1, number
    assert after["/shirt/bag.png"] == after["/bag/1.png"]
    share = np.mean([split == "test" for name, split in after.items() if name.startswith("/bag")])
    assert 0.15 < share < 0.25


def test_the_order_of_rows_does_not_matter_for_copies_in_two_classes(image_folder, pngs):
    path = image_folder({"shirt": 20, "bag": 10})
    (path / "shirt" / "bag.png").write_bytes((path / "bag" / "0.png").read_bytes())
    found = [
        {"path": str(file), "row": None, "sha256": file_hash(file), "usable": True, "group": "", "split": "train"}
        | {"label_name": file.parent.name}
        for file in sorted(path.rglob("*.png"))
    ]
    backwards = [dict(row) for row in reversed(found)]
    make_splits(found, dataset(path))
    make_splits(backwards, dataset(path))
    assert [row["split"] for row in found] == [row["split"] for row in reversed(backwards)]


def test_similar_images_are_not_near_duplicates(repository, tmp_path):
    rows = pd.read_parquet(repository / "resources/fashion_mnist_lt/train.parquet")
    files = []
    for number, image in enumerate(rows["image"]):
        (tmp_path / f"{number}.png").write_bytes(image["bytes"])
        files.append({"path": str(tmp_path / f"{number}.png"), "row": None, "sha256": str(number)})
    found = near_duplicates(files)
    assert len(found) - len(set(found)) <= 3  # of 763,230 pairs


def test_a_class_of_copies_of_one_image_stays_in_the_training_split(image_folder):
    path = image_folder({"shirt": 10, "bag": 1})
    for number in range(5):
        shutil.copy(path / "bag" / "0.png", path / "bag" / f"copy-{number}.png")
    assert {split for name, split in splits(path).items() if name.startswith("/bag")} == {"train"}


def test_unusable_files_are_rows_too(image_folder):
    path = image_folder({"shirt": 10, "bag": 5})
    (path / "bag" / "text.png").write_text("no image")
    rows = index_dataset(dataset(path))
    assert rows["usable"].value_counts().to_dict() == {True: 15, False: 1}


def test_a_validation_split_can_be_made_of_given_training_images(image_folder):
    path = image_folder({"train/shirt": 20, "train/bag": 10, "test/shirt": 5, "test/bag": 5})
    there = counts(path, make_splits={"val": 0.2}, validation_split="val")
    assert there["shirt", "val"] == 4 and there["bag", "val"] == 2
    assert there["shirt", "test"] == there["bag", "test"] == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"make_splits": {"validation": 0.1, "test": 0.2}}, "set validation_split: validation"),
        ({"make_splits": {"test": 0.2}, "validation_split": "val"}, "'val' must be made too"),
        ({"make_splits": {"test": 1.0}}, "below 1"),
        ({"make_splits": {"test": 0.0}}, "above 0"),
        ({"source": "celeba"}, "make_splits is for source: folder, table"),
        ({"source": "torchvision"}, "name is needed with source: torchvision"),
        ({"name": "MNIST"}, "name is for source: torchvision; leave it out"),
    ],
)
def test_invalid_shares_and_sources_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        dataset("data", **settings)


def test_a_class_whose_only_image_is_a_copy_of_another_classes_image_keeps_it(image_folder, pngs):
    path = image_folder({"shirt": 40, "bag": 20})
    for number in range(10):  # of the shirts, whatever split they are in
        (path / f"zebra {number:02}").mkdir()
        (path / f"zebra {number:02}" / "0.png").write_bytes(pngs[number])
    rows = index_dataset(dataset(path, make_splits={"test": 0.4, "validation": 0.2}, validation_split="validation"))
    in_training = set(rows.loc[rows["split"] == "train", "label_name"])
    assert in_training == {"shirt", "bag", *(f"zebra {number:02}" for number in range(10))}
    assert rows.groupby("sha256")["split"].nunique().max() == 1  # copies are still together


def test_a_class_of_two_copies_in_other_classes_keeps_one(image_folder, pngs):
    path = image_folder({"shirt": 30, "bag": 15})
    taken = {name: split for name, split in splits(path, make_splits={"test": 0.5}).items() if split == "test"}
    (path / "zebra").mkdir()
    for number, name in enumerate([next(n for n in taken if "shirt" in n), next(n for n in taken if "bag" in n)]):
        shutil.copy(f"{path}{name}", path / "zebra" / f"{number}.png")
    after = splits(path, make_splits={"test": 0.5})
    assert sorted(split for name, split in after.items() if name.startswith("/zebra")) in (
        ["test", "train"], ["train", "train"]
    )  # fmt: skip
