"""Data sets whose images have groups (UTKFace, Waterbirds, CelebA), in the published layouts."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from synaug.datasets import celeba, utkface, waterbirds
from synaug.runtime.errors import UserError


def dataset(path, label_column="label", group_columns=(), train_split="train", test_split="test"):
    names = {"label_column": label_column, "group_columns": list(group_columns)}
    names |= {"train_split": train_split, "test_split": test_split, "validation_split": None}
    return SimpleNamespace(path=str(path), **names)


def complaint(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        list(call(*arguments))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def said(rows: list[dict]) -> list[tuple]:
    """File name, split, class and groups of every row; its other values are checked."""
    for row in rows:
        assert set(row) - {"reason"} == {"split", "label_name", "path", "row", "data", "attributes"}
        assert row["row"] is None and row["data"] == Path(row["path"])
    return [(Path(row["path"]).name, row["split"], row["label_name"], row["attributes"]) for row in rows]


@pytest.fixture(scope="session")
def jpeg(encode) -> bytes:
    return encode(np.zeros((4, 4, 3)), "JPEG")


# ---------------------------------------------------------------------------------------------------------- UTKFace

# As they are in the published archive, with its oddities: a blank, no dot, and (the last three) what is missing.
FACES = [
    "1_0_0_20161219140623097.jpg.chip.jpg",
    "26_1_2_20170116174525125.jpg.chip.jpg",
    "81_1_4_20170111211419693.jpg.chip.jpg",
    "24_0_1_20170116220224657 .jpg.chip.jpg",
    "55_0_3_20170116232725357jpg.chip.jpg",
]
UNNAMED = ["39_1_20170116174525125.jpg.chip.jpg", "61_1_20170109142408075.jpg.chip.jpg", "53__0_20170116184028385.jpg"]


@pytest.fixture
def faces(tmp_path, jpeg) -> Path:
    for name in [*FACES, *UNNAMED, ".DS_Store"]:
        (tmp_path / "UTKFace" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "UTKFace" / name).write_bytes(jpeg)
    (tmp_path / "UTKFace" / "crop_part1").mkdir()
    return tmp_path / "UTKFace"


def test_names_of_faces_say_class_and_groups(faces):
    rows = list(utkface.find(dataset(faces, "gender", ["race", "age"])))
    named = [row for row in rows if "reason" not in row]
    assert [(name, label, groups) for name, _, label, groups in said(named)] == [
        (FACES[0], "male", ["White", "baby"]),
        (FACES[3], "male", ["Black", "twenties"]),
        (FACES[1], "female", ["Asian", "twenties"]),
        (FACES[4], "male", ["Indian", "fifties"]),
        (FACES[2], "female", ["Others", "60 or older"]),
    ]
    assert utkface.files(dataset(faces, "race")) == []


def test_a_name_that_does_not_say_it_is_a_row_with_a_reason(faces):
    rows = [row for row in utkface.find(dataset(faces, "age", ["gender"], "learn", "exam")) if "reason" in row]
    assert said(rows) == [(name, "learn", None, []) for name in sorted(UNNAMED)]
    assert {row["reason"] for row in rows} == {"the file name does not hold age, gender and race"}


@pytest.mark.parametrize("name", ["1_2_0_2016.jpg", "1_0_5_2016.jpg", "-1_0_0_2016.jpg", "1_0_0_.jpg", "Thumbs.db"])
def test_values_that_utkface_does_not_have_are_no_values(name):
    assert utkface.describe(name) is None


def test_every_age_has_a_group_and_every_group_a_phrase():
    groups = [utkface.age_group(age) for age in range(117)]
    assert list(dict.fromkeys(groups)) == list(utkface.AGE_PHRASES)
    assert [groups.index(name) for name in utkface.AGE_PHRASES] == [0, 3, 13, 20, 30, 40, 50, 60]


def test_a_fifth_is_for_the_test_whatever_else_is_there():
    names = [f"{n % 100}_{n % 2}_{n % 5}_{20161219140623097 + n}.jpg.chip.jpg" for n in range(20000)]
    chosen = np.array([utkface.is_test(name) for name in names])
    assert abs(chosen.mean() - 0.2) < 0.015
    by_group = [chosen[first::10].mean() for first in range(10)]
    assert np.abs(np.array(by_group) - 0.2).max() < 0.045  # five standard deviations, as above
    assert np.flatnonzero(chosen[:12]).tolist() == [2, 3, 6]  # and never changes
    whole = np.array([utkface.is_test(name.removesuffix(".chip.jpg")) for name in names])
    assert np.array_equal(whole, chosen)


def test_the_split_has_the_names_of_the_config_and_does_not_depend_on_the_order(faces, monkeypatch):
    def splits() -> dict[str, str]:
        rows = utkface.find(dataset(faces, "gender", (), "learn", "exam"))
        return {name: split for name, split, _, _ in said(list(rows))}

    before = splits()
    assert before == {name: "exam" if name in FACES and utkface.is_test(name) else "learn" for name in before}
    listed = list(faces.iterdir())[::-1]
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter(listed))
    assert list(splits().items()) == list(before.items())


def test_faces_linked_from_elsewhere_are_not_read(faces, tmp_path, jpeg):
    (tmp_path / "outside.jpg").write_bytes(jpeg)
    (faces / "5_0_0_20160101000000000.jpg").symlink_to(tmp_path / "outside.jpg")
    data = {Path(row["path"]).name: row["data"] for row in utkface.find(dataset(faces, "gender"))}
    assert [name for name, one in data.items() if one is None] == ["5_0_0_20160101000000000.jpg"]


def test_faults_of_the_config_of_utkface_are_one_line(faces, tmp_path):
    assert "dataset.label_column: 'label' should be one of age, gender, race" in complaint(
        utkface.files, dataset(faces)
    )
    assert "'hair' should be one of age" in complaint(utkface.find, dataset(faces, "age", ["hair"]))
    assert "'age' is already the class" in complaint(utkface.files, dataset(faces, "age", ["gender", "age"]))
    assert "'race' is listed twice" in complaint(utkface.files, dataset(faces, "age", ["race", "race"]))
    assert "is not a folder" in complaint(utkface.files, dataset(tmp_path / "gone", "age"))
    assert "holds no files (folders: UTKFace)" in complaint(utkface.files, dataset(tmp_path, "age"))


# ------------------------------------------------------------------------------------------------------- Waterbirds

HEADER = "img_id,img_filename,y,split,place,place_filename"
BIRDS = [
    "1,001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg,1,0,1,/o/ocean/00000001.jpg",
    "2,001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg,1,1,0,/b/bamboo_forest/00000014.jpg",
    "3,004.Groove_billed_Ani/Groove_Billed_Ani_0002_1670.jpg,0,2,0,/f/forest/broadleaf/00000023.jpg",
    "4,004.Groove_billed_Ani/Groove_Billed_Ani_0006_1653.jpg,0,0,1,/l/lake/natural/00000032.jpg",
]


@pytest.fixture
def birds(tmp_path, jpeg):
    """A function: lines of metadata.csv to the folder of the data set."""

    def make(*rows: str, header: str = HEADER) -> Path:
        for row in BIRDS:
            file = tmp_path / row.split(",")[1]
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(jpeg)
        (tmp_path / "metadata.csv").write_text("".join(f"{line}\n" for line in [header, *rows]))
        return tmp_path

    return make


def test_rows_of_waterbirds_have_official_splits_classes_and_backgrounds(birds):
    chosen = dataset(birds(*BIRDS), group_columns=["background"])
    assert [row[1:] for row in said(list(waterbirds.find(chosen)))] == [
        ("train", "waterbird", ["water"]),
        ("val", "waterbird", ["land"]),
        ("test", "landbird", ["land"]),
        ("train", "landbird", ["water"]),
    ]
    assert waterbirds.files(chosen) == [Path(chosen.path) / "metadata.csv"]
    assert all(row["attributes"] == [] for row in waterbirds.find(dataset(chosen.path, train_split="val")))


def test_birds_that_are_gone_or_outside_are_rows(birds):
    rows = list(
        waterbirds.find(dataset(birds("1,gone.jpg,1,0,1,/o", "2,../outside.jpg,0,0,1,/o", "3,/etc/x,0,0,0,/o")))
    )
    assert rows[0]["data"] == Path(rows[0]["path"]) and not rows[0]["data"].exists()
    assert [row["data"] for row in rows[1:]] == [None, None]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("5,a.jpg,2,0,0,/o", "line 3: y is '2', should be 0 or 1"),
        ("5,a.jpg,1,3,0,/o", "line 3: split is '3', should be 0 or 1 or 2"),
        ("5,a.jpg,1,0,water,/o", "line 3: place is 'water'"),
        ("5,a.jpg,1", "line 3: split is ''"),
    ],
)
def test_a_bad_row_of_waterbirds_is_named_by_its_line(birds, row, fault):
    assert f"metadata.csv: {fault}" in complaint(waterbirds.find, dataset(birds(BIRDS[0], row)))


def test_faults_of_the_files_and_config_of_waterbirds_are_one_line(birds, tmp_path):
    assert "holds no metadata.csv" in complaint(waterbirds.files, dataset(tmp_path))
    old = birds("1,a.jpg,1,0", header="img_id,img_filename,y,split")
    assert "has no column 'place' (its columns: img_id, img_filename, y, split)" in complaint(waterbirds.find, dataset(old))
    (tmp_path / "metadata.csv").write_bytes(b"")
    assert "has no column 'img_filename' (its columns: none)" in complaint(waterbirds.find, dataset(tmp_path))
    (tmp_path / "metadata.csv").write_bytes(b"\xff\xfe\x00")
    assert "metadata.csv: cannot be read as text" in complaint(waterbirds.find, dataset(tmp_path))
    birds(*BIRDS)
    unknown = dataset(tmp_path, group_columns=["place"])
    assert "dataset.group_columns: 'place' should be one of background" in complaint(waterbirds.find, unknown)
    named = dataset(tmp_path, test_split="exam")
    assert "dataset.test_split: 'exam' should be one of train, val, test" in complaint(waterbirds.files, named)


# ----------------------------------------------------------------------------------------------------------- CelebA

ATTRIBUTES = ["5_o_Clock_Shadow", "Black_Hair", "Blond_Hair", "Gray_Hair", "Male", "Young"]
VALUES = {"000001.jpg": "-1 -1  1 -1 -1  1", "000002.jpg": "-1  1 -1 -1  1  1", "000003.jpg": " 1 -1 -1 -1  1 -1"}
PARTS = {"000001.jpg": 0, "000002.jpg": 1, "000003.jpg": 2}


@pytest.fixture
def celebrities(tmp_path, jpeg):
    """A function: what differs from the published files to the folder of the data set."""

    def make(values=VALUES, parts=PARTS, count=3, attributes=ATTRIBUTES) -> Path:
        folder = tmp_path / "celeba"
        (folder / "img_align_celeba").mkdir(parents=True, exist_ok=True)
        for name in VALUES:
            (folder / "img_align_celeba" / name).write_bytes(jpeg)
        head = f"{count}\n{' '.join(attributes)} \n"
        lines = [f"{name} {value}\n" for name, value in values.items()]
        (folder / "list_attr_celeba.txt").write_text(head + "".join(lines))
        (folder / "list_eval_partition.txt").write_text("".join(f"{name} {part}\n" for name, part in parts.items()))
        return tmp_path

    return make


def test_attributes_of_celeba_become_classes_and_groups(celebrities):
    chosen = dataset(celebrities(), "Blond_Hair", ["Male", "5_o_Clock_Shadow"])
    expected = [
        ("000001.jpg", "train", "blond hair", ["female", "not 5 o clock shadow"]),
        ("000002.jpg", "val", "not blond hair", ["male", "not 5 o clock shadow"]),
        ("000003.jpg", "test", "not blond hair", ["male", "5 o clock shadow"]),
    ]
    assert said(list(celeba.find(chosen))) == expected
    lists = [Path(chosen.path) / "celeba" / f"list_{name}.txt" for name in ("attr_celeba", "eval_partition")]
    assert celeba.files(chosen) == lists
    inner = dataset(Path(chosen.path) / "celeba", "Blond_Hair", ["Male", "5_o_Clock_Shadow"])
    assert said(list(celeba.find(inner))) == expected


def test_celebrities_that_are_gone_or_outside_are_rows(celebrities):
    values, parts = {**VALUES, "000004.jpg": VALUES["000001.jpg"], "../a.jpg": VALUES["000001.jpg"]}, {"000004.jpg": 0}
    path = celebrities(values, {**PARTS, **parts, "../a.jpg": 0}, 5)
    data = [row["data"] for row in celeba.find(dataset(path, "Male"))]
    assert not data[3].exists() and data[4] is None


def test_an_unknown_attribute_is_answered_with_the_closest(celebrities):
    said = complaint(celeba.files, dataset(celebrities(), "blonde_hair"))
    assert "dataset.label_column" in said and "'blonde_hair'; the closest: Blond_Hair, " in said
    said = complaint(celeba.find, dataset(celebrities(), "Blond_Hair", ["gender"]))
    assert "dataset.group_columns: CelebA has no attribute 'gender'; the closest: " in said
    assert "already the class" in complaint(celeba.find, dataset(celebrities(), "Male", ["Male"]))
    assert "dataset.train_split" in complaint(celeba.find, dataset(celebrities(), "Male", train_split="valid"))


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"count": 4}, "list_attr_celeba.txt: should list 4 images and lists 3"),
        ({"count": "many"}, "list_attr_celeba.txt: should begin with the number of images"),
        ({"attributes": ATTRIBUTES[1:]}, "list_attr_celeba.txt: line 3: should be a file name and 5 times 1 or -1"),
        ({"values": {**VALUES, "000003.jpg": "1 1 1 1 0 1"}}, "list_attr_celeba.txt: line 5"),
        ({"parts": {**PARTS, "000002.jpg": 3}}, "list_eval_partition.txt: line 2: '000002.jpg 3' should be"),
        ({"parts": {"000001.jpg": 0}}, "list_eval_partition.txt: has no line for 000002.jpg"),
        ({"parts": {**PARTS, "000009.jpg": 0}}, "list_attr_celeba.txt: has no line for 000009.jpg"),
    ],
)
def test_damaged_lists_of_celeba_are_one_line(celebrities, changed, fault):
    assert fault in complaint(celeba.find, dataset(celebrities(**changed), "Male"))


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba"])
def test_what_is_missing_of_celeba_is_named(celebrities, name):
    path = celebrities()
    (path / "celeba" / name).rename(path / "elsewhere")
    assert f"holds no {name}" in complaint(celeba.files, dataset(path, "Male"))
