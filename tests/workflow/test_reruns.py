"""What runs again after a change, and what does not.

Where jobs are made, the real ones are run. What would follow from them (training takes most of the time) is read from a
dry run afterwards, and so is what a change runs again that no checkpoint stands in front of.
"""

import hashlib
import os
import shutil
import sys

import pyarrow.parquet as pq
import pytest
import yaml
from workdir import CLASSES, call

from synaug.manifests import read_manifest

FILL = sum(max(CLASSES.values()) - count for count in CLASSES.values())  # 17
UPSTREAM = {"index_dataset", "measure_imbalance", "plan_generation"}
TRAINING = {"train", "finetune", "evaluate", "summarise", "report"}
SCORES, BALANCED = "results/test/scores.parquet", "results/test/balanced.parquet"  # behind all shards; before training


def plan_ids(work, experiment="test") -> set[str]:
    return set(read_manifest("plan", work.path / "results" / experiment / "plan.parquet")["image_id"])


def file_hashes(folder) -> dict:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.parquet")}


def test_first_run_makes_every_file_of_the_design(finished):
    for name in ("real", "imbalance", "plan", "synthetic", "balanced", "metrics", "summary"):
        assert (finished.results / f"{name}.parquet").is_file(), name
    for network in ("train/real/0", "train/synaug/0", "finetune/synaug/0"):
        for name in ("model.safetensors", "history.parquet", "predictions.parquet"):
            assert (finished.results / network / name).is_file(), (network, name)
    assert (finished.results / "report.html").is_file()
    balanced = read_manifest("balanced", finished.results / "balanced.parquet")
    assert set(balanced.groupby("label_name").size()) == {max(CLASSES.values())}
    assert finished.sampled() == FILL
    assert not list((finished.results / "work").glob("*"))  # nothing is left of what was in progress
    assert "&lt;b&gt;" in (finished.results / "report.html").read_text()  # names are text, not markup


def test_networks_on_real_images_alone_do_not_wait_for_synthetic_images(work):
    work.change(experiment="early")
    done = work.run("results/early/train/real/0/model.safetensors")
    assert done.jobs == ["index_dataset", "train"]
    network = work.path / "results/early/train/real/0/model.safetensors"
    assert network.read_bytes() == (work.results / "train/real/0/model.safetensors").read_bytes()


def test_nothing_changed_nothing_runs(work):
    assert work.run("-n").jobs == []


def test_no_timer_wakes_the_scheduler_while_jobs_run(work):
    """Snakemake starts one for every job, each a thread until the end of the run."""
    (work.results / "imbalance.parquet").unlink()
    code = (
        "import sys; from snakemake.cli import main; from snakemake.scheduling.job_scheduler import JobScheduler as S; "
        "S._schedule_reevalutation = lambda self, delay: print('a timer'); main(sys.argv[1:])"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "results/test/imbalance.parquet",
        "--cores",
        "2",
        "--configfile",
        "test.yaml",
    ]
    environment = os.environ | {"PYTHONPATH": str(work.path / "workflow_scripts")}
    done = call(work.path, command, environment, timeout=300)
    assert done.status == 0 and done.jobs == ["measure_imbalance"], done.text
    assert "a timer" not in done.text
    limited = [*command, "--force", "--max-jobs-per-timespan", "5/1s"]
    assert "a timer" in call(work.path, limited, environment, timeout=300).text


def test_touching_every_file_of_the_checkout_runs_nothing(work):
    for folder, folders, files in os.walk(work.path):
        folders[:] = [name for name in folders if name not in ("results", "logs", ".snakemake")]
        for name in files:
            os.utime(os.path.join(folder, name))
    assert work.run("-n").jobs == []


def test_a_deleted_shard_is_made_again_and_trains_nothing(work):
    before = file_hashes(work.results / "shards")
    lost = sorted((work.results / "shards").glob("*.parquet"))[0]
    lost.unlink()
    done = work.run()
    assert done.jobs.count("generate_shard") == 1
    assert not {"train", "finetune", "plan_generation"} & set(done.jobs)
    assert file_hashes(work.results / "shards") == before


def test_of_four_shards_the_one_that_was_lost_is_generated_and_scored(work):
    work.change(generation={"images_per_shard": 5}, screening={"classifier": {"steps": 2}})
    assert work.run(SCORES).jobs.count("score_shard") == 4
    before = [file_hashes(work.results / folder) for folder in ("", "shards", "scores")]
    lost = min((work.results / "shards").glob("*.parquet"))
    lost.unlink()
    done = work.run(SCORES, str(lost.relative_to(work.path)))  # the rule `all` also names both
    assert done.jobs == ["compare_images", "generate_shard", "score_shard"]
    assert [file_hashes(work.results / folder) for folder in ("", "shards", "scores")] == before
    min((work.results / "scores").glob("*.parquet")).unlink()
    (work.results / "scores.parquet").unlink()
    assert work.run(SCORES).jobs == ["compare_images", "score_shard"]
    assert [file_hashes(work.results / folder) for folder in ("", "shards", "scores")] == before


def test_a_higher_fill_samples_only_what_is_missing(work):
    old = plan_ids(work)
    work.change(balance={"strategy": "fixed", "target": max(CLASSES.values()) + 1})
    done = work.run(SCORES)
    assert done.status == 0
    assert old < plan_ids(work)
    assert work.sampled() == len(CLASSES)  # one more for each
    assert done.jobs.count("score_shard") == done.jobs.count("generate_shard")
    assert "index_dataset" not in done.jobs


def test_another_prompt_of_one_class_makes_only_its_images(work):
    old = plan_ids(work)
    work.change(prompts={"names": {"Bag": "handbag"}})
    assert work.run(BALANCED).status == 0
    wanted = max(CLASSES.values()) - CLASSES["Bag"]
    assert len(plan_ids(work) - old) == wanted
    assert work.sampled() == wanted
    assert work.run("-n").jobs.count("train") == 1  # the recipe `real` uses no synthetic image


def test_guidance_changed_and_changed_back_samples_once(work):
    before = file_hashes(work.results / "shards")
    work.change(generation={"guidance": 3.0})
    assert work.run(SCORES).status == 0
    assert work.sampled() == FILL
    work.forget_logs()
    work.change(generation={"guidance": 2.0})
    assert work.run(BALANCED).status == 0
    assert work.sampled() == 0
    assert not {"train", "finetune"} & set(work.run("-n").jobs)
    assert before.items() <= file_hashes(work.results / "shards").items()


def test_a_second_experiment_takes_over_what_exists(work):
    work.change(experiment="second", balance={"strategy": "fixed", "target": max(CLASSES.values()) + 2})
    assert work.run("results/second/scores.parquet").status == 0
    assert work.sampled("second") == 2 * len(CLASSES)
    assert plan_ids(work) < plan_ids(work, "second")


def test_a_training_key_trains_that_recipe_only(work):
    work.change(recipes={"synaug": {"stage1": {"steps": 5}}})
    done = work.run("-n")
    assert set(done.jobs) == TRAINING
    assert done.jobs.count("train") == 1


def test_a_key_of_stage_2_fine_tunes_only(work):
    work.change(recipes={"synaug": {"stage2": {"steps": 3}}})
    assert set(work.run("-n").jobs) == TRAINING - {"train"}


def test_changed_training_code_trains_and_generates_nothing(work):
    losses = work.path / "workflow_scripts" / "synaug" / "training" / "losses.py"
    text = losses.read_text()
    losses.write_text(text + "# another line\n")  # a comment is no change
    assert work.run("-n").jobs == []
    losses.write_text(text.replace("EFFECTIVE_BETA = 0.9999", "EFFECTIVE_BETA = 0.999"))
    done = work.run()
    assert set(done.jobs) >= TRAINING and not {"generate_shard", "plan_generation"} & set(done.jobs)
    assert done.jobs.count("train") == 2
    assert work.run("-n").jobs == []


def test_a_removed_real_image_changes_the_affected_images_only(work):
    old = plan_ids(work)
    path = work.path / "data" / "train.parquet"
    table = pq.read_table(path)
    boot = table["label_name"].to_pylist().index("Stövel <b>")
    pq.write_table(table.take([row for row in range(len(table)) if row != boot]), path)
    done = work.run()
    assert done.status == 0, done.text
    assert set(done.jobs) >= UPSTREAM | {"generate_shard", "screen_synthetic", "build_balanced_manifest"} | TRAINING
    assert len(plan_ids(work) - old) == 1
    assert work.sampled() == 1


def test_work_of_a_killed_job_is_taken_up(work):
    shard = sorted((work.results / "shards").glob("*.parquet"))[0]
    before = shard.read_bytes()
    rows = pq.read_table(shard)
    folder = work.results / "work" / shard.stem
    folder.mkdir(parents=True)
    pq.write_table(rows.slice(0, 3), folder / "batch.parquet")
    shard.unlink()
    assert work.run(str(shard.relative_to(work.path))).status == 0
    assert work.sampled() == rows.num_rows - 3
    assert shard.read_bytes() == before
    assert not folder.exists()
    assert work.run("-n").jobs == []  # the shard is newer than its scores, but its bytes are the same


@pytest.mark.parametrize("changes", [{"images_per_shard": 100}, {"batch_size": 2, "compile": True}])
def test_another_cut_into_jobs_samples_nothing(work, changes):
    work.change(generation=changes)
    assert work.run(BALANCED).status == 0
    assert work.sampled() == 0
    assert not {"train", "finetune"} & set(work.run("-n").jobs)


def test_a_threshold_scores_nothing_again(work):
    """Nor does it train anything, as long as the verdicts stay."""
    work.change(screening={"classifier": {"steps": 2}, "duplicates": {"max_hash_distance": None}, "leakage": None})
    done = work.run("results/test/quality.parquet")
    scoring = {"fit_screener", "score_shard", "score_real"}
    assert scoring | {"compare_images", "screen_synthetic", "measure_quality"} <= set(done.jobs)
    work.change(screening={"classifier": {"min_confidence": 0.0}, "min_contrast": 0.0})
    done = work.run("results/test/quality.parquet")
    assert set(done.jobs) == {"screen_synthetic", "build_balanced_manifest"}
    quality = read_manifest("quality", work.results / "quality.parquet")
    assert (quality["features"].dropna().str.startswith("classifier sha256:")).all()
    assert quality.set_index(["label_name", "metric"])["value"]["", "kept"] == FILL
    work.change(screening={"classifier": {"disagreement_weight": 0.5}})
    jobs = set(work.run("-n", "results/test/quality.parquet").jobs)
    assert "screen_synthetic" in jobs and not (scoring | {"compare_images"}) & jobs
    work.change(screening={"leakage": {}})  # other images are compared, and none is scored
    jobs = set(work.run("-n", "results/test/quality.parquet").jobs)
    assert "compare_images" in jobs and not scoring & jobs


def test_the_domain_probe_needs_probe_images_and_no_other_network(work):
    work.change(evaluation={"domain_probe": True})
    jobs = set(work.run("-n").jobs)
    assert {"generate_probe_images", "probe_domains", "evaluate"} <= jobs
    assert not {"generate_shard", "train", "finetune"} & jobs


@pytest.mark.parametrize("what", ["licence", "moved model", "forced"])
def test_a_shard_whose_job_runs_again_is_copied_and_not_sampled(work, what):
    """Its name is the hash of its images. What does not decide pixels must not cost them, even if the job runs."""
    before = {path.name for path in (work.results / "shards").iterdir()}
    if what == "licence":
        work.change(generation={"licence": "CC0"})
    if what == "moved model":
        model = yaml.safe_load((work.path / "test.yaml").read_text())["generation"]["model"]
        shutil.copytree(work.path / model, work.path / "moved")
        work.change(generation={"model": "moved"})
    done = work.run(SCORES, *(["--forcerun", "generate_shard"] if what == "forced" else []))
    assert done.status == 0, done.text
    assert "generate_shard" in done.jobs and work.sampled() == 0
    assert {path.name for path in (work.results / "shards").iterdir()} == before
    if what == "licence":
        assert set(read_manifest("shard", next((work.results / "shards").iterdir()), ["licence"])["licence"]) == {"CC0"}
