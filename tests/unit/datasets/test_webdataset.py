"""WebDataset tars become a table."""

import json
import lzma
import subprocess
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from layouts import converted, samples, write_tar

from synaug.config import Dataset
from synaug.datasets import input_files
from synaug.datasets.detect import detect
from synaug.datasets.webdataset import find
from synaug.images.store import read_encoded
from synaug.runtime.errors import UserError

LABELS = ["cat", "dog"] * 6


def block(path: Path, **settings) -> Dataset:
    return Dataset(source="webdataset", path=str(path), image_size=28, **settings)


def error(dataset: Dataset, folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        input_files(dataset)
        converted(dataset, folder)
    assert not list(folder.glob("*dataset.parquet*"))  # no partial file
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def tars(tmp_path, pngs) -> Path:
    write_tar(tmp_path / "tars" / "train-000000.tar", samples(pngs, LABELS[:4]))
    write_tar(tmp_path / "tars" / "train-000001.tar", samples(pngs, LABELS[4:8], 4))
    write_tar(tmp_path / "tars" / "val" / "000000.tar", samples(pngs, LABELS[8:], 8))
    return tmp_path / "tars"


def test_tars_by_split(tars, tmp_path, pngs):
    rows = converted(block(tars, test_split="val"), tmp_path)
    assert rows.groupby(["split", "label_name"]).size().to_dict() == {
        ("train", "cat"): 4, ("train", "dog"): 4, ("val", "cat"): 2, ("val", "dog"): 2,
    }  # fmt: skip
    assert rows["usable"].all()
    (_, images), *_ = read_encoded(rows.sort_values("row"))
    assert images == pngs[:12]  # unchanged, not encoded again


def test_tars_in_linked_folders_are_read_and_circles_end(tars, tmp_path):
    plain = converted(block(tars, test_split="val"), tmp_path)
    elsewhere = tmp_path / "elsewhere" / "val"
    elsewhere.parent.mkdir()
    (tars / "val").rename(elsewhere)
    (tars / "val").symlink_to(elsewhere)
    for name, target in (("back", tars), ("itself", elsewhere), ("out", tmp_path), ("loop", "loop")):
        (elsewhere / name).symlink_to(target)
    write_tar(tmp_path / "val-000009.tar", {})  # of another data set
    linked = converted(block(tars, test_split="val"), tmp_path)
    assert len(input_files(block(tars, test_split="val"))) == 3
    assert linked["image_id"].tolist() == plain["image_id"].tolist()
    assert linked["split"].tolist() == plain["split"].tolist()


def test_a_link_to_a_folder_of_the_data_set_adds_no_tar(tars):
    (tars / "latest").symlink_to("val")
    assert len(input_files(block(tars, test_split="val"))) == 3


def test_init_takes_tars_in_linked_folders(tars, tmp_path):
    (tars / "val").rename(tmp_path / "val")
    (tars / "val").symlink_to(tmp_path / "val")
    found = detect(tars, None, None, None, [])
    assert found.dataset["test_split"] == "val" and len(found.rows) == 12


def test_a_folder_that_cannot_be_read_is_named(tars, tmp_path, monkeypatch):
    list_folder = Path.iterdir

    def refuse(folder):
        if folder.name == "val":
            raise PermissionError(13, "Permission denied")
        return list_folder(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    message = error(block(tars, make_splits={"test": 0.25}), tmp_path)
    assert f"{tars}/val: cannot be read (Permission denied); change its permissions" in message


def test_tars_without_splits(tars, tmp_path):
    rows = converted(block(tars, make_splits={"test": 0.25}), tmp_path)
    assert rows["split"].value_counts().to_dict() == {"train": 8, "test": 4}


def test_json_of_a_sample_holds_class_and_groups(tmp_path, pngs):
    members = {}
    for number, label in enumerate(LABELS):
        values = {"species": label, "place": number % 3, "note": None}
        members |= {f"{number}.json": json.dumps(values).encode(), f"{number}.jpg": pngs[number], f"{number}.txt": b"-"}
    path = write_tar(tmp_path / "all.tar", members)
    settings = {"label_column": "species", "group_columns": ["place"], "make_splits": {"test": 0.5}}
    rows = converted(block(path, **settings), tmp_path)
    assert set(rows["label_name"]) == {"cat", "dog"} and set(rows["group"]) == {"0", "1", "2"}


def test_an_unusable_image_of_a_tar_is_a_row_with_a_reason(tars, tmp_path):
    write_tar(tars / "train-000002.tar", {"x.png": b"no image", "x.cls": b"cat"})
    rows = converted(block(tars, test_split="val"), tmp_path)
    assert rows["reason"].dropna().tolist() == ["is not an image of a known format"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"1.cls": b"cat"}, "train.tar: 1: has no image"),
        ({"1.png": b"x"}, "train.tar: 1: has no label"),
        ({"1.png": b"x", "1.cls": b" "}, "has no label"),
        ({"1.png": b"x", "1.json": b'{"label": NaN}'}, "has no label"),
        ({"1.png": b"x", "1.json": b"{"}, "1.json: is not JSON"),
        ({"1.png": b"x", "1.json": b"[]"}, "1.json: should be an object"),
        ({"1.png": b"x", "1.json": b'{"label": [0, 1]}'}, "1.json: 'label' should be one text or number"),
        ({"1.png": b"x", "1.cls": b"\xff\xfe"}, "1.cls: is b'\\xff\\xfe', which is not UTF-8 text"),
        ({"1.png": b"x", "1.cls": b"9" * (1 << 25)}, "1.cls has 33,554,432 bytes"),
        ({"1.png": b"x", "1.jpg": b"y", "1.cls": b"cat"}, "train.tar: 1: has several images (jpg, png)"),
        ({"1.png": b"x", "1.PNG": b"y", "1.cls": b"cat"}, "train.tar: 1: has several parts 'png'"),
        ({"1.png": b"x", "1.cls": b"cat", "1.CLS": b"dog"}, "train.tar: 1: has several parts 'cls'"),
    ],
)
def test_samples_that_lack_something_are_named(tmp_path, members, message):
    write_tar(tmp_path / "tars" / "train.tar", members)
    assert message in error(block(tmp_path / "tars", make_splits={"test": 0.2}), tmp_path)


def test_missing_and_damaged_tars_are_named(tars, tmp_path):
    assert "begins with 'test'" in error(block(tars), tmp_path)
    assert "holds no *.tar" in error(block(tmp_path / "nowhere"), tmp_path)
    (tars / "train-000000.tar").write_bytes(b"no tar" * 500)
    assert "train-000000.tar: cannot be read" in error(block(tars, test_split="val"), tmp_path)


def test_all_tars_of_a_joined_file_are_read(tmp_path, pngs):
    parts = [write_tar(tmp_path / f"{start}.tar", samples(pngs, LABELS[:4], start)) for start in (0, 4)]
    (tmp_path / "all.tar").write_bytes(b"".join(part.read_bytes() for part in parts))
    rows = converted(block(tmp_path / "all.tar", make_splits={"test": 0.25}), tmp_path)
    assert len(rows) == 8 and rows["usable"].all()


def tar_with_header(path: Path, pngs) -> tuple[bytes, int, int]:
    """The content of a tar of 12 samples, where the header of the ninth begins, and where the last sample ends."""
    write_tar(path, samples(pngs, LABELS))
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    return path.read_bytes(), members[16].offset, members[-1].offset_data + 512


@pytest.mark.parametrize(
    "fault",
    [
        *("damaged header", "damaged header of the last sample", "zeros in place of a header"),
        *("cut off in a header", "cut off in an image", "cut off behind an image", "cut off in the last class"),
    ],
)
def test_a_tar_that_would_end_early_is_named(tmp_path, pngs, fault):
    path = tmp_path / "all.tar"
    whole, header, end = tar_with_header(path, pngs)
    content = {
        "damaged header": whole[:header] + b"x" * 512 + whole[header + 512 :],
        "damaged header of the last sample": whole[: end - 1024] + b"x" * 512 + whole[end - 512 :],
        "zeros in place of a header": whole[:header] + bytes(512) + whole[header + 512 :],
        "cut off in a header": whole[: header + 100],
        "cut off in an image": whole[: header + 600],
        "cut off behind an image": whole[: header + 512 + len(pngs[8])],  # before the zeros that fill its last block
        "cut off in the last class": whole[: end - 200],
    }[fault]
    path.write_bytes(content)
    assert "all.tar: cannot be read as tar" in error(block(path, make_splits={"test": 0.25}), tmp_path)


def test_a_tar_without_end_mark_is_read_with_a_warning(tmp_path, pngs, caplog):
    path = tmp_path / "all.tar"
    whole, header, end = tar_with_header(path, pngs)
    for stop, count in ((header, 8), (end, 12), (end + 100, 12), (end + 700, 12)):
        caplog.clear()
        path.write_bytes(whole[:stop])
        rows = converted(block(path, make_splits={"test": 0.25}), tmp_path)
        assert len(rows) == count and rows["usable"].all()
        assert "all.tar: has no end mark" in caplog.text and f"a.b/{count - 1:04}.cls" in caplog.text


@pytest.mark.parametrize(
    "junk",
    [b"x", b"\n" * 700, bytes(100), b"PK" * 5000, bytes(1024) + b"x"],
    ids=["one", "two blocks", "zeros", "many", "after more zeros"],
)
@pytest.mark.parametrize("zeros", [1024, 10240])
def test_bytes_behind_the_end_mark_are_not_read(tmp_path, pngs, caplog, junk, zeros):
    path = tmp_path / "all.tar"
    whole, _, end = tar_with_header(path, pngs)
    path.write_bytes(whole[:end] + bytes(zeros) + junk)
    rows = converted(block(path, make_splits={"test": 0.25}), tmp_path)
    assert len(rows) == 12 and rows["usable"].all()
    assert (f"all.tar: {len(junk.lstrip(bytes(1))):,} bytes behind its end" in caplog.text) == (junk != bytes(100))


def test_a_complete_tar_causes_no_warning(tmp_path, pngs, caplog):
    path = write_tar(tmp_path / "all.tar", samples(pngs, LABELS))
    converted(block(path, make_splits={"test": 0.25}), tmp_path)
    assert not caplog.text


def test_a_damaged_header_in_the_second_of_two_joined_tars_is_named(tmp_path, pngs):
    parts = [write_tar(tmp_path / f"{start}.tar", samples(pngs, LABELS[:4], start)).read_bytes() for start in (0, 4)]
    (tmp_path / "all.tar").write_bytes(parts[0] + b"x" * 512 + parts[1][512:])
    assert "all.tar: cannot be read" in error(block(tmp_path / "all.tar", make_splits={"test": 0.25}), tmp_path)


def test_a_part_that_is_not_used_may_be_repeated(tmp_path, pngs):
    members = samples(pngs, LABELS[:4])
    members |= {f"a.b/0003.{part}": b"x" for part in ("txt", "TXT", "mask.png", "mask.PNG")}
    path = write_tar(tmp_path / "all.tar", members)
    assert len(converted(block(path, make_splits={"test": 0.5}), tmp_path)) == 4


def test_truth_values_are_classes_and_groups(tmp_path, pngs):
    members = {}
    for number, smiling in enumerate([True, False] * 4):
        values = {"smiling": smiling, "where": number > 3}
        members |= {f"{number}.json": json.dumps(values).encode(), f"{number}.jpg": pngs[number]}
    path = write_tar(tmp_path / "all.tar", members)
    settings = {"label_column": "smiling", "group_columns": ["where"], "make_splits": {"test": 0.5}}
    rows = converted(block(path, **settings), tmp_path)
    assert set(rows["label_name"]) == {"True", "False"} and set(rows["group"]) == {"True", "False"}


def test_a_byte_order_mark_is_no_part_of_a_class(tmp_path, pngs):
    members = {f"{number}.jpg": pngs[number] for number in range(4)}
    members |= {f"{number}.cls": ("\ufeff" * (number < 2) + "ab"[number % 2]).encode() for number in range(4)}
    path = write_tar(tmp_path / "all.tar", dict(sorted(members.items())))
    assert set(converted(block(path, make_splits={"test": 0.5}), tmp_path)["label_name"]) == {"a", "b"}


def test_files_that_a_mac_or_a_file_server_adds_are_skipped(tars, tmp_path, pngs):
    for name in ("._train-000000.tar", "@eaDir/train-000009.tar", "__MACOSX/train-000008.tar"):
        (tars / name).parent.mkdir(exist_ok=True)
        (tars / name).write_bytes(b"no tar")
    members = {"__MACOSX/7.png": b"x", "@eaDir/7.png/thumb.png": b"x", "7.png": pngs[20], "7.cls": b"cat"}
    write_tar(tars / "train-000002.tar", members)
    rows = converted(block(tars, test_split="val"), tmp_path)
    assert rows["usable"].all() and len(rows) == 13


def bomb(path: Path, name: str, size: int, kind: bytes = tarfile.REGTYPE) -> Path:
    """A small compressed tar with one member of `size` zero bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    block_of_zeros = bytes(1 << 20)
    with lzma.open(path, "wb", preset=0) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(size >> 20):
            file.write(block_of_zeros)
        file.write(bytes(1024))
    return path


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("1.png", tarfile.REGTYPE, "1.png has 67,108,864 bytes"),
        ("1.json", tarfile.REGTYPE, "1.json has 67,108,864 bytes"),
        ("x", tarfile.XHDTYPE, "a header of 67,108,864 bytes"),
        ("x", tarfile.GNUTYPE_LONGNAME, "a header of 67,108,864 bytes"),
    ],
)
def test_a_bomb_is_refused_before_it_is_read(tmp_path, name, kind, message):
    path = bomb(tmp_path / "train.tar.xz", name, 1 << 26, kind)
    path = path.rename(tmp_path / "train.tar")
    tracemalloc.start()
    refused = error(block(path, make_splits={"test": 0.5}, max_megapixels=4), tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message in refused
    assert peak < 1 << 25


def test_a_sparse_member_of_eight_gigabytes_is_refused(tmp_path):
    with (tmp_path / "1.png").open("wb") as file:
        file.truncate(8 << 30)
    subprocess.run(["tar", "-cSf", "train.tar", "1.png"], cwd=tmp_path, check=True)
    assert (tmp_path / "train.tar").stat().st_size < 1 << 20
    assert "1.png has 8,589,934,592 bytes" in error(block(tmp_path / "train.tar", make_splits={"test": 0.5}), tmp_path)


def test_parts_that_are_not_used_are_not_read(tmp_path, pngs):
    members = {f"{number}.png": pngs[number] for number in range(4)}
    members |= {f"{number}.cls": b"ab"[number % 2 :][:1] for number in range(4)}
    path = bomb(tmp_path / "train.tar", "0.mp4", 1 << 26)
    with lzma.open(path) as packed:
        video = packed.read(512 + (1 << 26))
    rest = write_tar(tmp_path / "rest.tar", dict(sorted(members.items())))
    path.write_bytes(lzma.compress(video + rest.read_bytes(), preset=0))
    tracemalloc.start()
    rows = converted(block(path, make_splits={"test": 0.5}), tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows) == 4 and peak < 1 << 25


def test_the_headers_of_members_are_not_kept_in_memory(tmp_path):
    path = write_tar(tmp_path / "train.tar", dict.fromkeys((f".hidden/.{number}" for number in range(8000)), b""))
    tracemalloc.start()
    assert list(find(block(path, make_splits={"test": 0.5}))) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
