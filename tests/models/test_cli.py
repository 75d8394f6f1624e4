"""The command `synaug`: what it finds, what it says of it, and its exit status."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synaug import cli
from synaug.generation.shards import generate_shard
from synaug.manifests import read_manifest, read_table, write_manifest
from synaug.manifests.schemas import SCHEMAS
from synaug.plan.shards import shard_name

ZEROS = {"bool": True, "string": "", "dictionary": "", "int32": 0, "int64": 0, "double": 0.0, "float": 0.0}


def full(kind: str, rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with something in each column of the manifest that must not be null."""
    needed = [field for field in SCHEMAS[kind] if not field.nullable and field.name not in rows]
    kinds = {field.name: "dictionary" if pa.types.is_dictionary(field.type) else str(field.type) for field in needed}
    return rows.assign(**{name: ZEROS[kind] for name, kind in kinds.items()})


def write_places(kind: str, home: Path, **columns) -> None:
    """The manifest `synthetic` or `balanced`, from the shards that are there."""
    rows = []
    for file in sorted(home.glob("shards/*.parquet")):
        shard = read_table("shard", file, ["image_id", "sha256", "label_name"]).to_pandas()
        rows.append(shard.assign(path=f"results/{home.name}/shards/{file.name}", row=range(len(shard)), column="image"))
    rows = pd.concat(rows).assign(label=0, **columns)
    write_manifest(kind, full(kind, rows), home / f"{kind}.parquet")


@pytest.fixture(scope="session")
def made(plan, tmp_path_factory) -> Path:
    """A folder with results/e: a plan of two shards, both made."""
    home = tmp_path_factory.mktemp("made") / "results" / "e"
    halves = [plan.iloc[:6], plan.iloc[6:]]
    halves = [half.assign(shard=shard_name(half["image_id"].tolist())) for half in halves]
    write_manifest("plan", pd.concat(halves), home / "plan.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNAUG_DEVICES", "cpu")
        for number, half in enumerate(halves):
            out = home / f"shards/{half['shard'].iloc[0]}.parquet"
            generate_shard(half, 4, out, home / f"work/{number}", [], 1)
    write_places("synthetic", home)
    write_places("balanced", home, source="synthetic")
    shutil.rmtree(home / "work", ignore_errors=True)
    return home.parents[1]


@pytest.fixture
def home(made, tmp_path, monkeypatch) -> Path:
    """A copy of results/e, in the working directory."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("results/e")


def shards(home: Path) -> list[Path]:
    return sorted(home.glob("shards/*.parquet"))


def changed(file: Path, row: int, **values) -> Path:
    """The shard `file` with other values in one row."""
    table = read_table("shard", file)
    rows = table.to_pylist()
    rows[row] |= values
    write_manifest("shard", pa.Table.from_pylist(rows, schema=SCHEMAS["shard"]), file)
    return file


def damaged(file: Path, row: int) -> str:
    """Flip one byte in the middle of an encoded image, in place; returns its id."""
    table = read_table("shard", file, ["image", "image_id"])
    image = table.column("image")[row].as_py()["bytes"]
    flipped = bytearray(image)
    flipped[len(image) // 2] ^= 0xFF
    # Every occurrence: the smallest and the largest value stand in the page's statistics too.
    file.write_bytes(file.read_bytes().replace(image, bytes(flipped)))
    return table.column("image_id")[row].as_py()


# ---- help, version, user errors


def test_help_does_not_wait_for_torch():
    code = "import sys; sys.argv = ['synaug', '--help']; from synaug import cli\n"
    code += "try: cli.main()\nexcept SystemExit: pass\n"
    code += "print([name for name in ('torch', 'pandas', 'pyarrow', 'PIL', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "regenerate" in done.stdout and "verify" in done.stdout
    assert done.stdout.rstrip().endswith("[]")


def test_version(synaug):
    assert synaug("--version")[:2] == (0, f"synaug {cli.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify", "nowhere"], "nowhere: no such folder"),
        (["verify", "results/e/shards"], "holds no experiment"),
        (["regenerate", "ffff"], "ffff: no shard in results"),
        (["regenerate", "x", "--results", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_a_user_error_is_one_line_and_status_2(synaug, home, arguments, said):
    status, out, err = synaug(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("synaug: error: ") and said in err and err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["regenerate"], ["verify", "--magic"], ["magic"]])
def test_a_wrong_call_is_status_2(synaug, arguments):
    assert synaug(*arguments)[0] == 2


# ---- verify


def test_verify_finds_nothing_in_what_is_whole(synaug, home):
    for arguments in ([], ["results"], [home], [home.resolve()]):
        status, out, _ = synaug("verify", *arguments)
        assert (status, out) == (0, "no findings in 1 experiment: 2 shards, 11 images, 3 other files\n")


def test_verify_works_from_another_folder(synaug, home, monkeypatch, tmp_path):
    monkeypatch.chdir("/")
    assert synaug("verify", tmp_path / "results")[0] == 0


def test_shards_that_are_still_to_be_made_are_no_finding(synaug, home):
    for name in ("synthetic", "balanced"):
        (home / f"{name}.parquet").unlink()
    shards(home)[0].unlink()
    status, out, _ = synaug("verify")
    assert status == 0 and "1 planned shard is not made yet" in out


def test_a_shard_that_is_gone_is_missed_by_those_that_point_at_it(synaug, home):
    gone = shards(home)[0]
    rows = len(read_table("shard", gone, ["image_id"]))
    gone.unlink()
    status, out, _ = synaug("verify")
    lines = out.splitlines()
    assert status == 1 and len(lines) == 3
    for line, name in zip(lines, ("synthetic", "balanced"), strict=False):
        assert re.match(rf"results/e/{name}\.parquet: {rows} rows point at {gone}, which is gone; run", line)


def test_damaged_images_are_named_and_only_they_are_made_again(synaug, home, plan, caplog):
    caplog.set_level("INFO")
    file = shards(home)[0]
    before = file.read_bytes()
    wanted = plan[plan["image_id"].isin(read_table("shard", file, ["image_id"]).column(0).to_pylist())]
    bad = [damaged(file, 1), damaged(file, 3)]
    status, out, _ = synaug("verify")
    lines = out.splitlines()
    assert status == 1 and len(lines) == 3
    for line, image_id in zip(lines, bad, strict=False):
        assert re.match(rf"{file}: image {image_id} does not have its recorded hash; move it into \S+/ and run", line)
    # What it advises works.
    work = Path(re.search(r"move it into (\S+)/ and", out)[1])
    work.mkdir(parents=True)
    shutil.move(file, work / file.name)
    generate_shard(wanted, 4, file, work, [], 1)
    assert f"{len(wanted) - 2} finished before, 0 copied, 2 to sample" in caplog.text
    assert file.read_bytes() == before
    assert synaug("verify")[0] == 0


def test_a_shard_cut_short_is_to_be_deleted(synaug, home):
    file = shards(home)[0]
    for size in (0, 100, file.stat().st_size - 10):
        file.write_bytes(file.read_bytes()[:size])
        status, out, _ = synaug("verify", home)
        assert status == 1
        assert [line for line in out.splitlines() if f"{file}: " in line and "delete it and run the workflow" in line]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"width": 13}, "is 12 x 12 pixels, recorded are 13 x 12"),
        ({"sha256": "0" * 64}, "does not have its recorded hash"),
        ({"image": {"bytes": b"", "path": None}}, "is empty"),
        ({"image": {"bytes": b"words", "path": None}, "sha256": "sha256 of b'words'"}, "not an image"),
        ({"image_id": "f" * 24}, "does not hold the images that its name stands for"),
    ],
)
def test_rows_that_do_not_fit_their_image_are_found(synaug, home, values, said):
    import hashlib

    if "words" in values.get("sha256", ""):
        values = values | {"sha256": hashlib.sha256(b"words").hexdigest()}
    file = changed(shards(home)[0], 2, **values)
    status, out, _ = synaug("verify")
    assert status == 1
    assert any(line.startswith(f"{file}: ") and said in line for line in out.splitlines()), out


def test_an_image_that_is_there_twice_is_found(synaug, home):
    first = shards(home)[0]
    twice = read_table("shard", first, ["image_id"]).column(0)[1].as_py()
    changed(first, 2, image_id=twice)
    status, out, _ = synaug("verify")
    assert status == 1 and f"{first}: holds image {twice} more than once" in out


def test_a_column_that_is_missing_is_named(synaug, home):
    file = shards(home)[0]
    pq.write_table(pq.read_table(file).drop_columns("seed"), file)
    status, out, _ = synaug("verify")
    assert status == 1 and f"{file}: has no column seed; delete it" in out


def test_a_shard_that_no_plan_names_may_go(synaug, home):
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


@pytest.mark.parametrize("kind", ["synthetic", "balanced"])
@pytest.mark.parametrize("column", ["row", "sha256", "image_id"])
def test_rows_that_point_at_another_image_are_found(synaug, home, kind, column):
    path = home / f"{kind}.parquet"
    rows = read_manifest(kind, path)
    value = {"row": 99, "sha256": "0" * 64, "image_id": "f" * 24}[column]
    rows.loc[4, column] = value
    write_manifest(kind, rows, path)
    status, out, _ = synaug("verify")
    assert status == 1
    assert out.startswith(f"{path}: row of image {rows.loc[4, 'image_id']} points at another image in ")
    assert f"delete {path} and run" in out


def test_a_plan_with_images_that_its_shard_lacks_is_found(synaug, home):
    path = home / "plan.parquet"
    plan = read_manifest("plan", path)
    plan.loc[0, "image_id"] = "f" * 24
    write_manifest("plan", plan, path)
    status, out, _ = synaug("verify")
    assert status == 1 and f"{path}: " in out and "lacks image ffffffffffffffffffffffff" in out


# ---- regenerate


def ids(home: Path, number: int = 0) -> list[str]:
    return read_table("shard", shards(home)[number], ["image_id"]).column(0).to_pylist()


def test_images_are_made_again_from_their_rows_alone(synaug, home):
    """Each alone and with others, in another order than in the first place, from both shards."""
    # The rows are all there is: no plan, no config.
    for path in home.glob("*.parquet"):
        path.unlink()
    some = [*ids(home, 1)[::-1], ids(home, 0)[2]]
    status, out, _ = synaug("regenerate", *some)
    assert status == 0
    assert sorted(out.splitlines()) == sorted(f"{one} same" for one in some)
    assert synaug("regenerate", some[0], "--device", "cpu")[:2] == (0, f"{some[0]} same\n")


def test_the_beginning_of_an_id_will_do_if_only_one_has_it(synaug, home):
    one = ids(home)[0]
    assert synaug("regenerate", one[:8])[:2] == (0, f"{one} same\n")
    status, _, err = synaug("regenerate", "")
    assert status == 2 and "11 images in results have ids that begin so" in err


def test_an_image_that_differs_is_measured(synaug, home):
    """The row of one image with the pixels of another, as if the model had changed its mind."""
    file = shards(home)[0]
    other = read_table("shard", file).to_pylist()[3]
    changed(file, 1, image=other["image"], sha256=other["sha256"])
    status, out, _ = synaug("regenerate", ids(home)[1], ids(home)[2])
    assert status == 1
    lines = dict(line.split(" ", 1) for line in out.splitlines())
    assert lines[ids(home)[2]] == "same"
    most, mean = re.match(
        r"differs: by (\d+) of 255 levels at most, ([\d.]+) in the mean", lines[ids(home)[1]]
    ).groups()
    assert int(most) > float(mean) > 0
    assert "are as recorded" in out


def test_what_is_not_as_it_was_is_named(synaug, home):
    file = shards(home)[0]
    then = {"device": "NVIDIA H100", "libraries": read_table("shard", file).column("libraries")[0].as_py()}
    then["libraries"] = re.sub(r"torch [^,]+", "torch 1.0", then["libraries"])
    changed(file, 1, seed=1, **then)
    status, out, _ = synaug("regenerate", ids(home)[1])
    assert status == 1
    assert "device: made with NVIDIA H100, here cpu" in out
    assert re.search(r"libraries: made with torch 1\.0, here torch \d+\.\d+[^,]*\)$", out)


def test_a_file_with_the_same_pixels_is_told_from_one_with_others(synaug, home):
    changed(shards(home)[0], 1, licence="another")
    status, out, _ = synaug("regenerate", ids(home)[1])
    assert status == 1 and "differs: in the file but in no pixel" in out


def test_a_damaged_file_can_still_be_proven(synaug, home):
    bad = damaged(shards(home)[0], 1)
    status, out, _ = synaug("regenerate", bad)
    assert status == 0 and out.startswith(f"{bad} same: but ") and "synaug verify" in out


def test_without_its_model_an_image_cannot_be_made(synaug, home, tiny_checkpoint, tmp_path):
    for row, model in ((1, "/gone"), (2, str(shutil.copytree(tiny_checkpoint, tmp_path / "changed")))):
        changed(shards(home)[0], row, model=model)
    weights = next((tmp_path / "changed").rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    gone, other, fine = ids(home)[1:4]
    status, out, err = synaug("regenerate", gone, other, fine)
    assert status == 2
    lines = dict(line.split(" ", 1) for line in out.splitlines())
    assert lines[fine] == "same"
    assert lines[gone].startswith("cannot: ") and "/gone" in lines[gone]
    assert lines[other].startswith("cannot: ") and "changed" in lines[other]
    assert "Traceback" not in err
    # Where the model lies does not count, only what it is.
    assert synaug("regenerate", gone, other, fine, "--model", tiny_checkpoint)[0] == 0


@pytest.fixture
def from_real(home, plan, tiny_checkpoint, pngs):
    """Images made from real ones, in results/e: a shard and the manifest `real` beside it. Their ids."""
    folder = Path("data")
    folder.mkdir()
    for number, data in enumerate(pngs[:2]):
        (folder / f"{number}.png").write_bytes(data)
    real = {"image_id": ["a", "b"], "path": ["data/0.png", "data/1.png"], "label_name": "cat", "usable": True}
    write_manifest("real", full("real", pd.DataFrame(real)), home / "real.parquet")
    rows = plan.iloc[:3].assign(
        pipeline="image-to-image", strength=0.6, source_image=["a", "b", "a"], image_id=["1" * 24, "2" * 24, "3" * 24]
    )
    name = shard_name(rows["image_id"].tolist())
    from synaug.generation.sources import RealImages

    sources = RealImages(home / "real.parquet", rows["source_image"], 16)
    generate_shard(rows, 2, home / f"shards/{name}.parquet", home / "work/x", [], 1, sources=sources)
    return rows["image_id"].tolist()


def test_images_from_real_images_find_these_again(synaug, home, from_real):
    status, out, _ = synaug("regenerate", *from_real)
    assert (status, out.count(" same")) == (0, 3)
    Path("data/1.png").unlink()
    status, out, _ = synaug("regenerate", *from_real)
    assert status == 2 and "cannot: data/1.png" in out
