"""`synaug prune`: shards that no plan names, and caches, are listed, and deleted only with --delete."""

import fcntl

import pandas as pd
import pyarrow.parquet as pq
import pytest

from synaug.commands import prune
from synaug.commands.prune import find_orphans
from synaug.generation.locks import shard_lock
from synaug.manifests import write_manifest


@pytest.fixture
def home(plan, tmp_path):
    """results/e with a plan, its shard with scores, and a shard, scores, a work folder and a cost file of no plan."""
    home = tmp_path / "results/e"
    write_manifest("plan", plan, home / "plan.parquet")
    wanted = plan["shard"].iloc[0]
    names = ["shards/old.parquet", "scores/old.parquet", "work/old/x.parquet", "costs/old.json"]
    for name in (f"shards/{wanted}.parquet", f"scores/{wanted}.parquet", *names):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(bytes(1000))
    kept = tmp_path / "results/without_plan/shards/other.parquet"
    kept.parent.mkdir(parents=True)
    kept.touch()
    return home


def files(home) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


def test_only_shards_that_no_plan_names_are_orphans(home):
    orphans = ["shards/old.parquet", "scores/old.parquet", "work/old", "costs/old.json"]
    assert find_orphans(home.parent) == [home / name for name in orphans]


def test_a_plan_that_lost_rows_decides_nothing(synaug, home, plan):
    table = pq.read_table(home / "plan.parquet")
    pq.write_table(table.slice(1), home / "plan.parquet")
    before = files(home)
    status, _, err = synaug("prune", home.parent, "--delete")
    assert status == 2 and "plan.parquet: does not hold what was written to it; delete it, run the workflow" in err
    assert files(home) == before


def test_the_work_folder_of_a_running_job_and_that_of_a_preview_are_kept(synaug, home):
    for name in ("work/preview/x.parquet", "work/killed/x.parquet"):
        (home / name).parent.mkdir()
        (home / name).touch()
    with shard_lock(home.parent, "old"):
        synaug("prune", home.parent, "--delete")
        assert [path.name for path in sorted(home.glob("work/*"))] == ["old", "preview"]
    synaug("prune", home.parent, "--delete")
    assert [path.name for path in sorted(home.glob("work/*"))] == ["preview"]


def test_orphans_are_listed_with_their_size_and_kept(synaug, home):
    before = files(home)
    status, out, _ = synaug("prune", home.parent)
    assert status == 0
    assert out.splitlines() == [
        str(home / "shards/old.parquet"),
        str(home / "scores/old.parquet"),
        str(home / "work/old"),
        str(home / "costs/old.json"),
        "4 orphans, 0.0 MB; to delete them, add --delete",
    ]
    assert files(home) == before


def test_delete_lists_and_deletes(synaug, home, plan):
    status, out, _ = synaug("prune", home.parent, "--delete")
    assert status == 0
    assert str(home / "shards/old.parquet") in out and out.endswith("deleted 4 orphans, 0.0 MB\n")
    wanted = plan["shard"].iloc[0]
    assert files(home) == ["plan.parquet", f"scores/{wanted}.parquet", f"shards/{wanted}.parquet"]
    assert (home.parent / "without_plan/shards/other.parquet").exists()
    assert synaug("prune", home.parent, "--delete")[:2] == (0, "nothing to delete\n")


def test_shards_of_an_older_plan_stay_until_the_new_one_is_made(synaug, home, plan):
    """The new shards are copied from them, and the balanced set names them until then."""
    made = home / f"shards/{plan['shard'].iloc[0]}.parquet"
    made.rename(home / "shards/elsewhere.parquet")
    before = files(home)
    status, out, _ = synaug("prune", home.parent, "--delete")
    assert (status, files(home)) == (0, before)
    assert out == f"{home}: its run is not finished, so that its shards are kept\nnothing to delete\n"


def test_shards_that_the_accepted_images_name_are_kept(home, monkeypatch):
    monkeypatch.setattr(prune, "count_rows", lambda *_: pd.DataFrame({"path": ["results/e/shards/old.parquet", None]}))
    (home / "synthetic.parquet").touch()
    assert find_orphans(home.parent) == []


def test_a_folder_without_a_plan_is_named_as_the_reason(synaug, tmp_path):
    (tmp_path / "other/shards").mkdir(parents=True)
    (tmp_path / "other/shards/x.parquet").touch()
    assert "there is no plan, and without one all shards are kept" in synaug("prune", tmp_path)[1]


def test_in_an_empty_folder_there_is_nothing_to_delete(synaug, tmp_path):
    assert synaug("prune", tmp_path)[:2] == (0, "nothing to delete\n")


def test_of_a_linked_cache_the_link_is_deleted(synaug, home, tmp_path):
    """Other files may be where it leads to."""
    cache = tmp_path / "elsewhere"
    cache.mkdir()
    (home / "pixels").symlink_to(cache)
    assert synaug("prune", home.parent, "--delete")[0] == 0
    assert cache.exists() and not (home / "pixels").is_symlink()


def test_the_folder_must_be_that_of_all_experiments(synaug, home, tmp_path):
    assert "is one experiment" in synaug("prune", home)[2]
    assert "no such folder" in synaug("prune", tmp_path / "gone")[2]


def test_decoded_images_of_an_experiment_are_listed_and_deleted(synaug, home):
    synaug("prune", home.parent, "--delete")
    images = home / "pixels/32-grey-0123/0123.pixels"
    images.parent.mkdir(parents=True)
    images.write_bytes(bytes(2_000_000))
    status, out, _ = synaug("prune", home.parent)
    assert status == 0
    assert out.splitlines() == [str(home / "pixels"), "1 pixel cache, 2.0 MB; to delete them, add --delete"]
    assert images.exists()
    out = synaug("prune", home.parent, "--delete")[1]
    assert out.endswith("deleted 1 pixel cache, 2.0 MB\n") and not (home / "pixels").exists()
    assert (home / "plan.parquet").exists()


def test_decoded_images_that_a_job_is_adding_to_are_kept(synaug, home):
    (home / "pixels/32-grey-0123").mkdir(parents=True)
    with open(home / "pixels/32-grey-0123/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "pixels" not in synaug("prune", home.parent, "--delete")[1]
    assert str(home / "pixels") in synaug("prune", home.parent)[1]
