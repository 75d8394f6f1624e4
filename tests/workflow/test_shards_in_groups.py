"""Several shards in one submission of a cluster. The cluster is this machine, which notes what it was asked for."""

from math import ceil

from workdir import Workdir

SUBMIT = """\
#!/bin/sh
echo "$@" >> submitted.txt
sh "$4" > /dev/null 2>&1 &
echo $!
"""


def test_shards_in_a_group_take_turns_on_one_gpu_and_add_their_time(work: Workdir):
    (work.path / "submit").write_text(SUBMIT)
    (work.path / "submit").chmod(0o755)
    before = {path.stem for path in (work.results / "shards").glob("*.parquet")}
    work.change(generation={"images_per_shard": 2})
    cluster = ["--executor", "cluster-generic", "--jobs", "2", "--seconds-between-status-checks", "1"]
    cluster += ["--cluster-generic-submit-cmd", "./submit {resources.gpu} {resources.runtime} {threads}"]
    # As in docs/clusters.md.
    groups = ["--groups", "generate_shard=shards", "--group-components", "shards=4"]
    groups += ["--set-resource-scopes", "gpu=local", "--resources", "gpu=1"]
    done = work.run("results/test/scores.parquet", *cluster, *groups, "--default-resources", "gpu=0", "runtime=60")
    assert done.status == 0, done.text
    new = {path.stem for path in (work.results / "shards").glob("*.parquet")} - before
    assert len(new) > 4
    submitted = [line.split()[:3] for line in (work.path / "submitted.txt").read_text().splitlines()]
    on_gpu = [(int(runtime) // 60, int(threads)) for gpu, runtime, threads in submitted if gpu != "0"]
    assert [gpu for gpu, _, _ in submitted if gpu != "0"] == ["1"] * ceil(len(new) / 4)
    # Full groups and what is left: the threads of one shard, and the time of all.
    left = [len(new) % 4] if len(new) % 4 else []
    assert sorted(on_gpu) == sorted([(count, 1) for count in [4] * (len(new) // 4) + left])
