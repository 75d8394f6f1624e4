"""docs/examples/without_snakemake.py: the library does the whole method, called as functions."""

import runpy

import pandas as pd
from PIL import Image


def test_the_script_fills_two_classes_and_trains(repository, tmp_path, capsys):
    script = runpy.run_path(str(repository / "docs/examples/without_snakemake.py"))
    accuracy = script["main"](tmp_path)
    (shard,) = (tmp_path / "shards").glob("*.parquet")
    assert pd.read_parquet(shard, columns=["label_name"]).value_counts().to_dict() == {
        ("Ankle boot",): 7,
        ("Bag",): 3,
    }
    balanced = pd.read_parquet(tmp_path / "balanced.parquet")
    assert balanced.groupby("label_name", observed=True).size().min() == 10
    assert (balanced["source"] == "synthetic").sum() == 7
    with Image.open(tmp_path / "images.png") as sheet:
        assert sheet.width > 7 * 128  # the seven images of a class are side by side
    assert accuracy > 0.2  # ten classes
    assert f"{accuracy:.1%}" in capsys.readouterr().out
