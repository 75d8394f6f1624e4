"""README.md, CONTRIBUTING.md and docs/: what they name is there, and the configs that they show are valid."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from pages import blocks, merged, pages, reason_not_to_run
from synaug.config import load_config
from synaug.datasets import index
from synaug.runtime.errors import UserError
from synaug.study import variant_configs

ROOT = Path(__file__).parents[3]
# What a block of a page that shows only a part of a config is laid into.
REST = {
    "experiment": "mine",
    "dataset": {"source": "table", "path": "data", "image_size": 64},
    "generation": {"model": "model"},
    "recipes": {"real": {"data": "real"}, "filled": {"data": "balanced"}, "synaug": {"data": "balanced"}},
}
COMMANDS = sorted({command for block in blocks(ROOT, "bash") for command in block.commands})


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_are_there(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {link}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, link


@pytest.mark.parametrize("block", blocks(ROOT, "yaml"), ids=lambda block: block.place)
def test_configs_are_valid(block):
    config = merged(REST, yaml.safe_load(block.text))
    load_config(config)
    for one in variant_configs(config).values() if "study" in config else ():
        load_config(one)


@pytest.mark.parametrize("command", [one for one in COMMANDS if reason_not_to_run(one)])
def test_what_commands_name_that_no_test_runs_is_there(command):
    words = [word for word in shlex.split(command) if "=" not in word]
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    if words[0] == "snakemake":
        rules = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
        plain = [word for i, word in enumerate(words) if i and not word.startswith("-") and words[i - 1][0] != "-"]
        assert set(plain) <= {*re.findall(r"^ *(?:rule|checkpoint) (\w+):", rules, re.MULTILINE), "all"}
    for path in (word for word in words if word.startswith(("experiments/", "resources/", "benchmarks/", "profiles/"))):
        assert (ROOT / path).exists(), path
        if path.startswith("experiments/"):
            load_config(yaml.safe_load((ROOT / path).read_text()))


def test_every_ready_made_config_is_listed():
    listed = re.findall(r"^\| \[(.*?)\]", (ROOT / "experiments/README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "experiments").glob("*.yaml"))


def test_the_loader_of_the_page_loads(tmp_path, pngs, monkeypatch):
    """docs/how-to/extend.md shows a module for a data set: it does what it says."""
    text = next(block.text for block in blocks(ROOT, "python") if "named_files.py" in block.text)
    (tmp_path / "named_files.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    import named_files

    monkeypatch.setitem(index.SOURCES, "folder", named_files)  # a name that the config knows
    monkeypatch.setitem(sys.modules, "named_files", named_files)
    dataset = load_config(merged(REST, {"dataset": {"source": "folder", "path": str(tmp_path / "data")}})).dataset
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=r"holds no \*\.png"):
        index.index_dataset(dataset)
    for i, name in enumerate(("train_cat_1", "train_cat_2", "train_dog_1", "test_cat_1", "test_dog_1", "val_dog_1")):
        (tmp_path / "data" / f"{name}.png").write_bytes(pngs[i])
    (tmp_path / "data" / "train_dog_2.png").write_bytes(b"no image")
    real = index.index_dataset(dataset)
    assert real.groupby(["split", "label_name"])["usable"].sum().to_dict() == {
        ("train", "cat"): 2, ("train", "dog"): 1, ("test", "cat"): 1, ("test", "dog"): 1
    }  # fmt: skip
    assert len(real) == 6
    (tmp_path / "data" / "cat.png").write_bytes(pngs[0])
    with pytest.raises(UserError, match="<split>_<class>_<anything>"):
        index.index_dataset(dataset)


def test_the_citation_has_the_version_of_the_package():
    import synaug

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == synaug.__version__


def test_hooks_are_local_and_of_the_environment():
    """Nothing is downloaded before a commit."""
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"
    assert {hook["id"] for hook in repo["hooks"]} >= {"ruff", "ruff-format", "snakefmt"}
    assert all(hook["entry"].startswith(".venv/bin/") and hook["language"] == "system" for hook in repo["hooks"])
