"""`synaug show`: columns, counts and sample rows of a manifest, and the time for a large one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from synaug.manifests import write_manifest


@pytest.fixture
def balanced(tmp_path, pngs):
    """A function: rows per (class, source) to results/e/balanced.parquet, with images that are files."""

    def make(counts: dict[tuple[str, str], int], **columns):
        home = tmp_path / "results" / "e"
        (tmp_path / "data").mkdir(exist_ok=True)
        rows = []
        for number, ((name, source), count) in enumerate(counts.items()):
            for i in range(count):
                (tmp_path / f"data/{number}-{i}.png").write_bytes(pngs[(number * 7 + i) % len(pngs)])
                row = {"image_id": f"{number:02x}{i:022x}", "label_name": name, "source": source}
                rows.append(row | {"label": number, "path": f"data/{number}-{i}.png", "sha256": f"{i:064x}"})
        write_manifest("balanced", pd.DataFrame(rows).assign(weight=1.0, **columns), home / "balanced.parquet")
        return home / "balanced.parquet"

    return make


def test_columns_units_and_counts_are_shown(synaug, balanced):
    path = balanced({("cat", "real"): 3, ("cat", "synthetic"): 2, ("dog", "real"): 1})
    status, out, _ = synaug("show", path)
    assert status == 0
    assert f"{path}: manifest balanced, schema version 1, 6 rows" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["weight", "double", "weight", "of", "the", "image", "in", "the", "loss"] in lines
    assert ["label_name", "real", "synthetic", "rows"] in lines
    assert ["cat", "3", "2", "5"] in lines
    assert ["dog", "1", "0", "1"] in lines
    assert any(line[:1] == ["path"] and "data/0-0.png" in line for line in lines)  # a sample row


def test_reasons_are_counted_in_full(synaug, tmp_path):
    reason = "is damaged (image file is truncated: 4 bytes not processed)"
    columns = {"split": "train", "label": 0, "label_name": "cat", "sha256": "0" * 64, "usable": [True, False, False]}
    rows = pd.DataFrame({"image_id": ["a", "b", "c"], "reason": [None, reason, reason]} | columns)
    write_manifest("real", rows, tmp_path / "real.parquet")
    _, out, _ = synaug("show", tmp_path / "real.parquet")
    assert any(line.startswith(reason) and line.split()[-1] == "2" for line in out.splitlines())


def test_any_parquet_file_is_read_also_an_empty_one(synaug, tmp_path):
    pd.DataFrame({"x": [0.5, None], "y": [[1, 2], []]}).to_parquet(tmp_path / "any.parquet")
    status, out, _ = synaug("show", tmp_path / "any.parquet")
    assert status == 0 and "any.parquet: Parquet, 2 rows" in out and "list of int64" in out
    write_manifest("balanced", pd.DataFrame(columns=["image_id"]), tmp_path / "none.parquet")
    status, out, _ = synaug("show", tmp_path / "none.parquet")
    assert status == 0 and "no rows" in out


def test_of_many_classes_the_largest_and_smallest_are_shown(synaug, tmp_path):
    names = [f"class {i}" for i in range(50) for _ in range(i + 1)]
    rows = pd.DataFrame({"label_name": names, "image_id": [f"{i:024x}" for i in range(len(names))]})
    rows = rows.assign(label=0, source="real", weight=1.0, sha256="0" * 64)
    write_manifest("balanced", rows, tmp_path / "balanced.parquet")
    _, out, _ = synaug("show", tmp_path / "balanced.parquet")
    assert "class 49" in out and "class 0 " in out and "class 25" not in out.split("a row")[0]
    assert "... 30 more, 765 rows" in out  # 11 + 12 + ... + 40


def test_a_file_that_is_no_parquet_is_one_line(synaug, tmp_path):
    (tmp_path / "words.parquet").write_text("words")
    for name, message in (("words.parquet", "is not a readable Parquet file"), ("gone.parquet", "no such file")):
        status, out, err = synaug("show", tmp_path / name)
        assert (status, out) == (2, "") and message in err and err.count("\n") == 1


def test_a_contact_sheet_of_files(synaug, balanced, tmp_path):
    path = balanced({("cat", "real"): 5, ("cat", "synthetic"): 2, ("dog", "real"): 1})
    status, out, _ = synaug("show", path, "--images", tmp_path / "sheet.png")
    assert status == 0 and "images of 3 classes" in out
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    assert (sheet < 100).mean() > 0.05  # pictures, not paper alone


def test_a_contact_sheet_of_a_manifest_without_images_is_refused(synaug, tmp_path):
    write_manifest(
        "history", pd.DataFrame({"step": [1]}).assign(epoch=1.0, loss=1.0, learning_rate=1.0), tmp_path / "h"
    )
    status, _, err = synaug("show", tmp_path / "h", "--images", tmp_path / "sheet.png")
    assert status == 2 and "has no images to draw" in err
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.slow
def test_a_million_rows_take_a_second(tmp_path):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 1000, 1_300_000)
    rows = pd.DataFrame({"image_id": np.char.mod("%024x", np.arange(len(label))), "label": label})
    rows = rows.assign(label_name=np.char.mod("class %d", label), sha256="0" * 64, weight=1.0, path="x", row=label)
    write_manifest("balanced", rows.assign(source=np.where(label % 9, "real", "synthetic")), tmp_path / "big.parquet")
    code = "import resource, sys; from synaug import cli\nsys.argv = ['synaug', 'show', sys.argv[1]]\n"
    code += "try: cli.main()\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules\n"
    code += "used = resource.getrusage(resource.RUSAGE_SELF); print(used.ru_utime + used.ru_stime)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "big.parquet"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1,300,000 rows" in done.stdout
    # Seconds of the processor, whatever else the machine does.
    assert float(done.stdout.split()[-1]) < 2


def test_a_footer_with_a_flipped_bit_ends_in_one_line_or_a_result(synaug, tmp_path):
    """It may then name more rows than the file has, other columns, or nothing that can be read."""
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"a": [1, 2, 3]}).to_parquet(path, index=False, store_schema=False)
    intact = path.read_bytes()
    footer = int.from_bytes(intact[-8:-4], "little")
    for place in range(len(intact) - footer - 8, len(intact)):
        for bit in (0, 6):  # of a number: a little larger or smaller, and much
            damaged = bytearray(intact)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            status, _, err = synaug("show", path)
            assert status in (0, 2) and "Traceback" not in err, (place, bit, err)
            assert status == 0 or (err.startswith("synaug: error: ") and err.count("\n") == 1), (place, bit, err)


def test_other_tables_are_counted_and_drawn_too(synaug, tmp_path, pngs):
    """Without ids, with lists in a column that manifests have as text, and at the top of the file system."""
    images = [{"bytes": data, "path": "x.png"} for data in pngs[:3]]
    table = pd.DataFrame({"image": images, "label_name": ["a", "b", "b"], "source": [["x"], [], ["x", "y"]]})
    table.to_parquet(tmp_path / "shard.parquet")
    status, out, _ = synaug("show", tmp_path / "shard.parquet")
    assert status == 0 and "label_name" in out
    table.drop(columns="source").to_parquet(tmp_path / "shard.parquet")
    status, out, err = synaug("show", tmp_path / "shard.parquet", "--images", tmp_path / "sheet.png")
    assert status == 0, err
    assert Image.open(tmp_path / "sheet.png").size[0] > 300
    table.assign(image="x.png").drop(columns="source").to_parquet(tmp_path / "paths.parquet")
    status, _, err = synaug("show", tmp_path / "paths.parquet", "--images", tmp_path / "sheet.png")
    assert status == 2 and "has no images to draw" in err


def test_a_contact_sheet_of_a_manifest_outside_of_its_experiment_is_refused(synaug, balanced, monkeypatch):
    path = balanced({("cat", "real"): 1})
    monkeypatch.setattr("os.path.abspath", lambda file: f"/tmp/{Path(file).name}")  # a copy there
    status, _, err = synaug("show", path, "--images", path.with_name("sheet.png"))
    assert status == 2 and "is not in results/<experiment>/" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "columns",
    [
        {"label_name": ["a", "b", "b"], "image_id": [1, 2, 3]},
        {"label_name": ["a", "b", "b"], "prompt": ["a cat", None, "a dog"]},
        {"label_name": [0, 1, 1], "prompt": [0.5, None, 2]},
        {"label_name": [0, 1, None], "source": [["x"], [], None]},
    ],
    ids=["whole numbers as ids", "a null prompt", "numbers as classes", "lists and nulls"],
)
def test_the_columns_of_other_tables_may_have_other_types(synaug, tmp_path, pngs, columns):
    images = [{"bytes": data, "path": "x.png"} for data in pngs[:3]]
    pd.DataFrame({"image": images} | columns).to_parquet(tmp_path / "mine.parquet")
    status, _, err = synaug("show", tmp_path / "mine.parquet", "--images", tmp_path / "sheet.png")
    assert (status, err) == (0, "") and (tmp_path / "sheet.png").exists()
