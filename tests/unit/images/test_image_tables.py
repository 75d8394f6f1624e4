"""Images of one table, read some at a time, and what a damaged part of the table costs."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synaug.images import tables
from synaug.images.tables import ImageTable, encoded_images
from synaug.runtime.errors import UserError

IMAGES = [bytes([n]) * 100 for n in range(50)]


def write(path, images, **settings):
    column = pa.array([{"bytes": data, "path": None} for data in images])
    table = pa.table({"image": column, "n": range(len(images))})
    pq.write_table(table, path, compression="NONE", use_dictionary=False, **settings)
    return path


@pytest.fixture
def table(tmp_path):
    """50 images in row groups of 10."""
    return write(tmp_path / "t.parquet", IMAGES, row_group_size=10)


def read(path, rows=None, damaged=None) -> tuple[list[int], list[bytes | None], list[int]]:
    """Row numbers, images and values of column n, and the largest number of images in memory at a time."""
    numbers, images, sizes = [], [], [0]
    with ImageTable(path) as opened:
        for piece, batch in opened.stream(["image", "n"], None if rows is None else np.array(rows), damaged):
            numbers += piece.tolist()
            assert batch.column("n").to_pylist() == piece.tolist()
            images += encoded_images(batch.column("image"))
            sizes.append(batch.num_rows)
    return numbers, images, sizes


@pytest.mark.parametrize("rows", [None, [], [0], [3, 3, 9, 10, 11, 49], [0, 0, 2], list(range(10, 20))])
def test_wanted_rows_are_read_in_order(table, rows):
    numbers, images, _ = read(table, rows)
    assert numbers == (list(range(50)) if rows is None else rows)
    assert images == [IMAGES[number] for number in numbers]


def test_a_large_row_group_is_read_a_few_images_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_BATCH_BYTES", 800)
    path = write(tmp_path / "t.parquet", IMAGES)
    assert pq.read_metadata(path).num_row_groups == 1
    _, images, sizes = read(path)
    assert images == IMAGES and max(sizes) <= 8


def test_equal_images_in_a_dictionary_are_read_a_few_at_a_time(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": [b"x" * 1000] * 1000, "n": range(1000)}), path)
    assert max(read(path)[2]) <= 16


@pytest.mark.parametrize("column", ["image", "n"])
def test_a_damaged_row_group_costs_its_own_rows(table, column):
    """The header of a page is overwritten in the third of the five row groups."""
    group = pq.read_metadata(table).row_group(2)
    start = next(
        group.column(number).data_page_offset
        for number in range(group.num_columns)
        if group.column(number).path_in_schema.startswith(column)
    )
    data = bytearray(table.read_bytes())
    data[start : start + 20] = b"\xff" * 20
    table.write_bytes(data)
    damaged = {}
    numbers, images, _ = read(table, damaged=damaged)
    assert numbers == [*range(20), *range(30, 50)]
    assert images == [IMAGES[number] for number in numbers]
    assert sorted(damaged) == list(range(20, 30)) and "rows 20 to 29" in damaged[25]
    with pytest.raises(UserError, match=r"t.parquet: rows 21 to 24 cannot be read"):
        read(table, [1, 21, 24, 30])
    assert read(table, [1, 30])[0] == [1, 30]


def test_a_missing_column_or_row_is_named(table):
    with pytest.raises(UserError, match="has no row 50, only 50 rows"):
        read(table, [3, 50])
    with ImageTable(table) as opened, pytest.raises(UserError, match=r"t.parquet: has no column 'picture'"):
        list(opened.stream(["picture"]))


def test_a_file_that_is_no_table_is_named(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"nothing")
    for name in ("t.parquet", "gone.parquet"):
        with pytest.raises(UserError, match=f"{name}: cannot be read"):
            ImageTable(tmp_path / name)
