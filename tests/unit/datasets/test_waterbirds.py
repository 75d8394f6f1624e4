"""Waterbirds: classes, backgrounds and official splits from its table."""

from pathlib import Path

import pytest
from layouts import BIRDS_HEADER, described, group_block, one_line_error, write_birds

from synaug.datasets import waterbirds

BIRDS = [
    "1,001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg,1,0,1,/o/ocean/00000001.jpg",
    "2,001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg,1,1,0,/b/bamboo_forest/00000014.jpg",
    "3,004.Groove_billed_Ani/Groove_Billed_Ani_0002_1670.jpg,0,2,0,/f/forest/broadleaf/00000023.jpg",
    "4,004.Groove_billed_Ani/Groove_Billed_Ani_0006_1653.jpg,0,0,1,/l/lake/natural/00000032.jpg",
]


@pytest.fixture
def birds(tmp_path, pngs):
    """A function: rows of metadata.csv to the folder of the data set."""

    def make(*rows: str, header: str = BIRDS_HEADER) -> Path:
        return write_birds(tmp_path, rows, {row.split(",")[1]: pngs[0] for row in BIRDS}, header)

    return make


def test_rows_have_official_splits_classes_and_backgrounds(birds):
    chosen = group_block(birds(*BIRDS), group_columns=["background"])
    assert [row[1:] for row in described(list(waterbirds.find(chosen)))] == [
        ("train", "waterbird", ["water"]),
        ("val", "waterbird", ["land"]),
        ("test", "landbird", ["land"]),
        ("train", "landbird", ["water"]),
    ]
    assert waterbirds.files(chosen) == [Path(chosen.path) / "metadata.csv"]
    assert all(row["attributes"] == [] for row in waterbirds.find(group_block(chosen.path, train_split="val")))


def test_missing_images_and_images_outside_the_folder_are_rows(birds):
    rows = list(
        waterbirds.find(group_block(birds("1,gone.jpg,1,0,1,/o", "2,../outside.jpg,0,0,1,/o", "3,/etc/x,0,0,0,/o")))
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
def test_a_malformed_row_is_named_by_its_line(birds, row, fault):
    assert f"metadata.csv: {fault}" in one_line_error(waterbirds.find, group_block(birds(BIRDS[0], row)))


def test_errors_in_the_files_and_the_config_are_named(birds, tmp_path):
    assert "holds no metadata.csv" in one_line_error(waterbirds.files, group_block(tmp_path))
    old = birds("1,a.jpg,1,0", header="img_id,img_filename,y,split")
    assert "has no column 'place' (its columns: img_id, img_filename, y, split)" in one_line_error(
        waterbirds.find, group_block(old)
    )
    (tmp_path / "metadata.csv").write_bytes(b"")
    assert "has no column 'img_filename' (its columns: none)" in one_line_error(waterbirds.find, group_block(tmp_path))
    (tmp_path / "metadata.csv").write_bytes(b"\xff\xfe\x00")
    assert "metadata.csv: cannot be read as text" in one_line_error(waterbirds.find, group_block(tmp_path))
    birds(*BIRDS)
    unknown = group_block(tmp_path, group_columns=["place"])
    assert "dataset.group_columns: 'place' should be one of background" in one_line_error(waterbirds.find, unknown)
    named = group_block(tmp_path, test_split="exam")
    assert "dataset.test_split: 'exam' should be one of train, val, test" in one_line_error(waterbirds.files, named)
