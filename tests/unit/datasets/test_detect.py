"""Data sets that `synaug init` recognises (tests/unit/commands/test_init.py has more of them)."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from layouts import arrow_table, converted, samples, write_arrow, write_tar

from synaug.commands.init import write_config
from synaug.config import load_config

LABELS = ["cat", "dog"] * 6


@pytest.mark.parametrize("kind", ["tars", "arrow", "hub"])
def test_packed_data_sets_are_recognised(tmp_path, pngs, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    write_tar(tmp_path / "tars" / "train-000000.tar", samples(pngs, LABELS[:4]))
    write_tar(tmp_path / "tars" / "train-000001.tar", samples(pngs, LABELS[4:8], 4))
    write_tar(tmp_path / "tars" / "val" / "000000.tar", samples(pngs, LABELS[8:], 8))
    for start, split in enumerate(("train", "test")):
        table = arrow_table(pngs, LABELS[:6], 6 * start).rename_columns(["picture", "fine_label", "place"])
        write_arrow(tmp_path / "arrow" / split / "data-00000-of-00001.arrow", table)
        (tmp_path / "hub" / "data").mkdir(parents=True, exist_ok=True)
        pq.write_table(table, tmp_path / "hub" / "data" / f"{split}-00000-of-00001.parquet")
    (tmp_path / "arrow" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    summary = write_config(Path(kind), label=None if kind == "tars" else "fine_label")
    assert "12 images in 2 classes" in summary
    config = load_config(yaml.safe_load(Path(f"{kind}.yaml").read_text()))
    rows = converted(config.dataset, tmp_path)
    # The classes of the others have three training images: too few for a validation image.
    wanted = {"train": 6, "validation": 2, "val": 4} if kind == "tars" else {"train": 6, "test": 6}
    assert rows["split"].value_counts().to_dict() == wanted
