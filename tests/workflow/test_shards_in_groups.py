"""Several jobs in one submission of a cluster. The cluster is this machine, which notes what it was asked for."""

from collections import Counter

from workdir import Workdir

SUBMIT = """\
#!/bin/sh
echo "$1 $2 $3 $4" >> submitted.txt
sh "$5" > /dev/null 2>&1 &
echo $!
"""
GROUPS = {"shards": 4, "scores": 20, "networks": 3}


def test_jobs_share_submissions_as_the_profile_says_and_ask_for_one_gpu_and_the_sum_of_their_times(work: Workdir):
    (work.path / "submit").write_text(SUBMIT)
    (work.path / "submit").chmod(0o755)
    before = {path.stem for path in (work.results / "shards").glob("*.parquet")}
    work.change(generation={"images_per_shard": 2}, seeds=[0, 1, 2])
    cluster = ["--executor", "cluster-generic", "--jobs", "2", "--seconds-between-status-checks", "1"]
    cluster += [
        "--cluster-generic-submit-cmd",
        "./submit {resources.turn} {resources.gpu} {threads} {resources.runtime}",
    ]
    cluster += ["--default-resources", "gpu=0", "runtime=60", "turn=1"]
    # All steps: with checkpoints to come, the groups of Snakemake alone have the wrong sizes.
    done = work.run(*cluster, "--group-components", *(f"{name}={jobs}" for name, jobs in GROUPS.items()))
    assert done.status == 0, done.text

    new = {path.stem for path in (work.results / "shards").glob("*.parquet")} - before
    assert len(new) > 4
    ran = Counter(event["rule_name"] for event in done.events if event["event"] == "job_info")
    assert {rule: ran[rule] for rule in ("generate_shard", "score_shard", "train", "finetune")} == {
        "generate_shard": len(new),
        "score_shard": len(new),
        "train": 4,
        "finetune": 2,
    }
    submitted = Counter((work.path / "submitted.txt").read_text().splitlines())
    full, left = divmod(len(new), 4)
    expected = Counter({f"1 1 1 {4 * 60}": full})
    expected[f"1 1 1 {left * 60}"] += bool(left)
    expected[f"1 0 1 {len(new) * 11}"] += 1  # all scores
    # The networks of seed 0 are there. Two of recipe `real`; two of `synaug`, each with its second stage, do not fit.
    expected[f"1 1 1 {2 * 11}"] += 3
    assert {request: count for request, count in submitted.items() if request in expected} == dict(+expected)
    alone = submitted - expected
    assert {request.split()[-1] for request in alone} == {"60"}, alone
