"""Successive halving through the real Snakefile: who is trained with which seed, and what a rerun does."""

import os
import shutil
import subprocess

import pandas as pd
import pytest
from workdir import Workdir, one_worker_at_a_time

from synaug.manifests import read_manifest

SEEDS = [3, 1, 2]
CONFIG = {
    "dataset": {"make_splits": {"validation": 0.4}, "validation_split": "validation"},
    "evaluation": {"choose_by": "balanced", "baseline": "real"},
    "recipes": {
        "rebalanced": {"data": "real", "stage1": {"loss": {"name": "balanced_softmax"}}},
        "mixed": {"data": "real", "stage1": {"mixup": {"alpha": 0.2}}},
        "filled": {"data": "balanced"},
        "filled_rebalanced": {"data": "balanced", "stage1": {"loss": {"name": "balanced_softmax"}}},
        "tau": {"data": "real", "stage1_of": "mixed", "stage2": {"method": "tau_norm"}},
    },
    "seeds": SEEDS,
}


@pytest.fixture(scope="module")
def halved(finished, tmp_path_factory, quick_python) -> Workdir:
    """A finished experiment with six stage-1 networks and three seeds, run once for all workers. Do not change it."""
    with one_worker_at_a_time(tmp_path_factory, "halving") as shared:
        work = Workdir(shared / "halving" / "checkout", python=quick_python)
        if not work.path.exists():
            shutil.copytree(finished.path, work.path)
            work.change(**CONFIG)
            done = work.run()
            assert done.status == 0, done.text
            assert done.jobs.count("halve_candidates") == len(SEEDS) - 1
    return work


@pytest.fixture
def work(halved, quick_python, tmp_path) -> Workdir:
    shutil.copytree(halved.path, tmp_path / "checkout")
    return Workdir(tmp_path / "checkout", python=quick_python)


def seeds_of(rows: pd.DataFrame) -> dict[tuple[str, str], set[int]]:
    return rows.groupby(["recipe", "stage"], observed=True)["seed"].agg(set).to_dict()


def trained(work: Workdir) -> dict[tuple[str, str], set[int]]:
    """(recipe, stage) -> seeds of the networks on the disk, but for the first run of the fixture, with seed 0."""
    folders = [path.relative_to(work.results).parts[:3] for path in work.results.glob("*/*/*/model.safetensors")]
    networks = pd.DataFrame(folders, columns=["stage", "recipe", "seed"]).astype({"seed": int})
    return seeds_of(networks[networks["seed"] != 0])


def test_dropped_candidates_have_the_first_seeds_and_finalists_have_all(halved):
    rounds = [read_manifest("candidates", halved.results / "candidates" / f"{number}.parquet") for number in (1, 2)]
    keys = [list(zip(table["recipe"], table["stage"], strict=True)) for table in rounds]
    stay = [{key for key, flag in zip(keys[i], table["kept"], strict=True) if flag} for i, table in enumerate(rounds)]
    assert stay[1] <= stay[0] < set(keys[0]) and set(keys[0]) == set(keys[1])
    expected = {key: set(SEEDS[: 1 + (key in stay[0]) + (key in stay[1])]) for key in keys[0]}
    assert trained(halved) == seeds_of(read_manifest("metrics", halved.results / "metrics.parquet")) == expected
    assert expected["real", "train"] == set(SEEDS)  # the baseline
    assert expected["mixed", "train"] >= expected["tau", "finetune"]
    chosen = read_manifest("chosen", halved.results / "chosen.parquet")
    assert {(row.recipe, row.stage): row.seeds for row in chosen.itertuples()} == {
        key: len(seeds) for key, seeds in expected.items()
    }
    assert chosen.loc[chosen["chosen"], "seeds"].tolist() == [len(SEEDS)]
    summary = read_manifest("summary", halved.results / "summary.parquet")
    assert (summary["low"].isna() == (summary["seeds"] == 1)).all() and (summary["seeds"] == 1).any()
    assert summary["train_seconds"].notna().all()
    page = " ".join((halved.results / "report.html").read_text().split())
    assert "Candidates with fewer seeds were dropped" in page


def test_a_rerun_does_nothing_and_files_of_dropped_candidates_do_not_count(work):
    assert work.run("-n").jobs == []
    dropped = next(key for key, seeds in trained(work).items() if len(seeds) == 1)
    recipe, stage = dropped
    shutil.copytree(work.results / stage / recipe / "3", work.results / stage / recipe / "1")
    assert work.run("-n").jobs == []
    (work.results / "metrics.parquet").unlink()
    assert work.run("results/test/metrics.parquet").jobs == ["evaluate"]
    assert seeds_of(read_manifest("metrics", work.results / "metrics.parquet"))[dropped] == {3}
    command = [work.python, "-m", "synaug.cli", "verify", "results/test"]
    environment = os.environ | {"PYTHONPATH": str(work.path / "workflow_scripts")}
    verified = subprocess.run(command, cwd=work.path, env=environment, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_threshold_trains_nothing_and_without_halving_only_the_missing_networks_are_trained(work):
    work.change(screening={"min_contrast": 0.5})
    done = work.run()
    assert done.status == 0 and "screen_synthetic" in done.jobs
    assert not {"train", "finetune", "train_final"} & set(done.jobs), done.jobs
    before = trained(work)
    work.change(evaluation={"halving": False})
    jobs = work.run("-n").jobs
    missing = {stage: sum(len(SEEDS) - len(seeds) for key, seeds in before.items() if key[1] == stage)
               for stage in ("train", "finetune")}  # fmt: skip
    assert {stage: jobs.count(stage) for stage in missing} == missing
    assert "halve_candidates" not in jobs
