"""Text from data where a person sees it: in Markdown and in CSV files that are opened in a spreadsheet."""

import csv
import subprocess
import sys

import pandas as pd
import pytest

from synaug.commands.cards import render_card
from synaug.commands.export_layouts import ImageFiles, folder_names
from synaug.commands.init import names_text
from synaug.config import Prompts
from synaug.plan.prompts import cell_prompts
from synaug.runtime.files import new_folder
from synaug.runtime.shown_text import csv_cell, from_csv_cell

FORMULAS = ["=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)", "\tx", "\r=1"]
NAMES = ["<script>alert(1)</script>", "a\n\n# Title", "[link](http://x)", "a|b", "`code`", "*bold*", "AT&amp;T"]


def test_a_card_shows_names_as_they_are():
    generator = {"model": "m`\n<b>", "model_version": "v", "licence": "<img src=x>", "count": 3, "pipeline": "p"}
    text = render_card(
        "data_card.md.j2", classes=[(name, 1, 2) for name in NAMES], total=[7, 14], groups=False, layout="hf",
        generators=[generator], experiment="e", version="0", origins=[], rejected=0, size_category="n<1K", place="p",
    )  # fmt: skip
    assert "<script>" not in text and "<img" not in text and "\n# Title" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert len(rows) == len(NAMES)
    assert r"| 0 | &lt;script&gt;alert(1)&lt;/script&gt; | 1 | 2 |" in rows
    assert r"| 2 | \[link\](http://x) | 1 | 2 |" in rows and r"| 3 | a\|b | 1 | 2 |" in rows
    assert "`m' <b>`, version `v`, licence: &lt;img src=x&gt;." in text


@pytest.mark.parametrize("text", [*FORMULAS, "'=1", "''+1"])
def test_a_formula_is_a_text_in_a_csv_file_and_is_read_back(text):
    assert csv_cell(text) == f"'{text}"
    assert from_csv_cell(csv_cell(text)) == text


@pytest.mark.parametrize("value", ["it's", "'quoted'", "cat", "", "a=b", -1.5, None, 3])
def test_other_values_are_unchanged(value):
    assert csv_cell(value) == value
    assert not isinstance(value, str) or from_csv_cell(value) == value


def test_exported_csv_files_have_no_formulas(tmp_path):
    with ImageFiles(tmp_path, FORMULAS, by_class=True) as writer:
        for label, name in enumerate(FORMULAS):
            writer.add(f"{label:024x}", b"x", "png", {"label": label, "label_name": name, "prompt": name, "weight": -1})
    with (tmp_path / "train" / "metadata.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        assert not [value for key, value in row.items() if value[:1] in "=+-@\t\r" and value and key != "weight"]
        assert (tmp_path / "train" / row["file_name"]).exists()
    assert not [name for name in folder_names(FORMULAS) if name[0] in "=+-@\t\r"]


def test_the_names_file_of_init_has_no_formulas_and_names_the_same_classes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classes = [*FORMULAS[:4], "cat"]
    rows = pd.DataFrame({"label": range(5), "label_name": classes})
    text = names_text(rows, [])
    assert not [line for line in text.splitlines() if line[:1] in "=+-@"]
    (tmp_path / "names.csv").write_text(text)
    prompts = cell_prompts(Prompts(templates=["{label}"], names="names.csv"), rows)
    assert [texts[0] for texts in prompts] == classes


def test_what_a_killed_export_left_is_deleted_by_the_next_one(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from synaug.runtime.files import new_folder\n"
        "with new_folder(Path(sys.argv[1])) as folder:\n (folder / 'x').write_text('x'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path / "out")]).returncode == 9
    assert len(list(tmp_path.iterdir())) == 1
    with new_folder(tmp_path / "other"):
        assert len(list(tmp_path.iterdir())) == 2  # of another folder
    with new_folder(tmp_path / "out") as folder:
        (folder / "y").write_text("y")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]
