"""`synaug verify`: what it finds, the remedies it names, and its exit status."""

import hashlib
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from finished_shards import change_row, damage_image, damage_rows, image_ids, shards

from synaug.generation.shards import generate_shard
from synaug.manifests import read_manifest, write_manifest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "nowhere"], "nowhere: no such folder"),
        (["verify", "results/e/shards"], "holds no experiment"),
        (["regenerate", "ffff"], "ffff: no shard in results"),
        (["regenerate", "x", "--results", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_a_user_error_is_one_line_and_status_2(synaug, home, arguments, message):
    status, out, err = synaug(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("synaug: error: ") and message in err and err.count("\n") == 1


def test_intact_files_have_no_findings(synaug, home):
    for arguments in ([], ["results"], [home], [home.resolve()]):
        status, out, _ = synaug("verify", *arguments)
        assert (status, out) == (0, "no findings in 1 experiment: 2 shards, 11 images, 3 other files\n")


def test_it_works_from_another_folder(synaug, home, monkeypatch, tmp_path):
    monkeypatch.chdir("/")
    assert synaug("verify", tmp_path / "results")[0] == 0


def test_unfinished_shards_are_no_finding(synaug, home):
    for name in ("synthetic", "balanced"):
        (home / f"{name}.parquet").unlink()
    shards(home)[0].unlink()
    status, out, _ = synaug("verify")
    assert status == 0 and "1 planned shard is not generated yet" in out


def test_a_missing_shard_is_a_finding_in_every_manifest_that_names_it(synaug, home):
    missing = shards(home)[0]
    rows = len(image_ids(missing))
    missing.unlink()
    status, out, _ = synaug("verify")
    lines = out.splitlines()
    assert status == 1 and len(lines) == 3
    for line, name in zip(lines, ("synthetic", "balanced"), strict=False):
        assert re.match(
            rf"results/e/{name}\.parquet: {rows} rows name images in {missing}, which does not exist; run", line
        )


def test_damaged_images_are_named_and_only_they_are_generated_again(synaug, home, plan, caplog):
    caplog.set_level("INFO")
    file = shards(home)[0]
    before = file.read_bytes()
    planned = plan[plan["image_id"].isin(image_ids(file))]
    bad = [damage_image(file, 1), damage_image(file, 3)]
    status, out, _ = synaug("verify")
    lines = out.splitlines()
    assert status == 1 and len(lines) == 3
    for line, image_id in zip(lines, bad, strict=False):
        assert re.match(rf"{file}: image {image_id} does not have its recorded hash; move it into \S+/ and run", line)
    # The remedy works.
    work = Path(re.search(r"move it into (\S+)/ and", out)[1])
    work.mkdir(parents=True)
    shutil.move(file, work / file.name)
    generate_shard(planned, 4, file, work, [], 1)
    assert f"{len(planned) - 2} finished before, 0 copied, 2 to sample" in caplog.text
    assert file.read_bytes() == before
    assert synaug("verify")[0] == 0


@pytest.mark.parametrize("column", ["image", "image_id", "prompt"])
def test_rows_that_cannot_be_read_are_named(synaug, home, column):
    file = shards(home)[0]
    damage_rows(file, column)
    status, out, _ = synaug("verify")
    assert status == 1
    found = [line for line in out.splitlines() if line.startswith(f"{file}: ")]
    assert len(found) == 1
    assert re.match(rf"{file}: rows 0 to \d cannot be read \(.*\); move it into \S+/ and run", found[0])


def test_a_truncated_shard_is_to_be_deleted(synaug, home):
    file = shards(home)[0]
    for size in (0, 100, file.stat().st_size - 10):
        file.write_bytes(file.read_bytes()[:size])
        status, out, _ = synaug("verify", home)
        assert status == 1
        assert [line for line in out.splitlines() if f"{file}: " in line and "delete it and run the workflow" in line]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 13}, "is 12 x 12 pixels, recorded are 13 x 12"),
        ({"sha256": "0" * 64}, "does not have its recorded hash"),
        ({"image": {"bytes": b"", "path": None}}, "is empty"),
        ({"image": {"bytes": b"words", "path": None}, "sha256": "sha256 of b'words'"}, "not an image"),
        ({"image_id": "f" * 24}, "does not hold the images that its name stands for"),
    ],
)
def test_rows_that_do_not_match_their_image_are_found(synaug, home, values, message):
    if "words" in values.get("sha256", ""):
        values = values | {"sha256": hashlib.sha256(b"words").hexdigest()}
    file = shards(home)[0]
    change_row(file, 2, **values)
    status, out, _ = synaug("verify")
    assert status == 1
    assert any(line.startswith(f"{file}: ") and message in line for line in out.splitlines()), out


def test_an_image_in_two_rows_is_found(synaug, home):
    file = shards(home)[0]
    duplicate = image_ids(file)[1]
    change_row(file, 2, image_id=duplicate)
    status, out, _ = synaug("verify")
    assert status == 1 and f"{file}: holds image {duplicate} more than once" in out


def test_a_missing_column_is_named(synaug, home):
    file = shards(home)[0]
    pq.write_table(pq.read_table(file).drop_columns("seed"), file)
    status, out, _ = synaug("verify")
    assert status == 1 and f"{file}: has no column seed; delete it" in out


def test_a_shard_that_no_plan_names_can_be_deleted(synaug, home):
    file = shards(home)[0]
    other = file.with_name("0123456789abcdef.parquet")
    shutil.copy(file, other)
    status, out, _ = synaug("verify")
    assert status == 1
    assert f"{other}: does not hold the images that its name stands for; delete it: no plan names it" in out


def test_finished_batches_are_checked_too(synaug, home):
    file = shards(home)[0]
    work = home / "work" / "some"
    work.mkdir(parents=True)
    shutil.copy(file, work / "good.parquet")
    assert synaug("verify")[0] == 0
    (work / "bad.parquet").write_bytes(file.read_bytes()[:-100])
    status, out, _ = synaug("verify")
    assert status == 1
    assert re.match(r"results/e/work/some/bad.parquet: .*; delete it and run the workflow again: its images", out)


@pytest.mark.parametrize("manifest", ["synthetic", "balanced"])
@pytest.mark.parametrize("column", ["row", "sha256", "image_id"])
def test_rows_that_name_another_image_are_found(synaug, home, manifest, column):
    path = home / f"{manifest}.parquet"
    rows = read_manifest(manifest, path)
    value = {"row": 99, "sha256": "0" * 64, "image_id": "f" * 24}[column]
    rows.loc[4, column] = value
    write_manifest(manifest, rows, path)
    status, out, _ = synaug("verify")
    assert status == 1
    assert out.startswith(f"{path}: the row of image {rows.loc[4, 'image_id']} names another image in ")
    assert f"delete {path} and run" in out


def test_a_planned_image_that_its_shard_lacks_is_found(synaug, home):
    path = home / "plan.parquet"
    plan = read_manifest("plan", path)
    plan.loc[0, "image_id"] = "f" * 24
    write_manifest("plan", plan, path)
    status, out, _ = synaug("verify")
    assert status == 1 and f"{path}: " in out and "lacks image ffffffffffffffffffffffff" in out
