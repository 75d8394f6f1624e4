"""`synaug prune`: what no plan names is listed, and deleted only if that was agreed to."""

import io

import pytest
import typer

from synaug.manifests import write_manifest
from synaug.tools.prune import orphans


@pytest.fixture
def home(plan, tmp_path):
    """results/e with a plan, its shard, and a shard, a work folder and a note that no plan names."""
    home = tmp_path / "results/e"
    write_manifest("plan", plan, home / "plan.parquet")
    wanted = plan["shard"].iloc[0]
    for name in (f"shards/{wanted}.parquet", "shards/old.parquet", "work/old/x.parquet", "costs/old.json"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(bytes(1000))
    kept = tmp_path / "results/without_plan/shards/other.parquet"
    kept.parent.mkdir(parents=True)
    kept.touch()
    return home


def files(home) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


def test_only_what_no_plan_names_is_an_orphan(home):
    assert orphans(home.parent) == [home / "shards/old.parquet", home / "work/old", home / "costs/old.json"]


def test_yes_deletes_and_says_how_much(synaug, home, plan):
    status, out, _ = synaug("prune", home.parent, "--yes")
    assert status == 0
    assert str(home / "shards/old.parquet") in out and out.endswith("deleted 3 orphans, 0.0 MB\n")
    assert files(home) == ["plan.parquet", f"shards/{plan['shard'].iloc[0]}.parquet"]
    assert (home.parent / "without_plan/shards/other.parquet").exists()
    assert synaug("prune", home.parent)[:2] == (0, "nothing to delete: a plan names every shard\n")


def test_nothing_goes_where_nobody_can_be_asked(synaug, home, monkeypatch):
    before = files(home)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    status, out, err = synaug("prune", home.parent)
    assert status == 2 and "shards/old.parquet" in out and "say --yes" in err
    assert files(home) == before


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1)])
def test_on_a_terminal_it_asks(synaug, home, monkeypatch, answer, status):
    before = files(home)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    # The function that reads the line, wherever this version of typer has its click.
    monkeypatch.setitem(typer.confirm.__globals__, "visible_prompt_func", lambda text: answer)
    assert synaug("prune", home.parent)[0] == status
    assert (files(home) == before) == (answer == "n")


def test_the_folder_of_all_experiments_is_what_is_wanted(synaug, home, tmp_path):
    assert "is one experiment" in synaug("prune", home)[2]
    assert "no such folder" in synaug("prune", tmp_path / "gone")[2]
