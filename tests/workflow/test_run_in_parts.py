"""`synaug run --parts` on the real workflow: all shards, the same results, and a last graph without them."""

import json
import os
import subprocess
import sys

from workdir import Workdir


def test_parts_make_what_is_missing_and_the_rest_takes_the_shards_as_they_are(work: Workdir):
    balanced = (work.results / "balanced.parquet").read_bytes()
    lost = sorted((work.results / "scores").glob("*.parquet"))[:2]
    expected = {path: path.read_bytes() for path in lost}
    for path in lost:
        path.unlink()
    shard = sorted((work.results / "shards").glob("*.parquet"))[-1]  # its scores are there
    expected[shard] = shard.read_bytes()
    shard.unlink()
    (work.results / "report.html").unlink()
    events = set((work.path / ".snakemake" / "log").glob("*.events.jsonl"))
    # The calls of Snakemake use the quick Python.
    program = f"import sys; sys.executable = {work.python!r}; from synaug.cli import main; main()"
    command = [sys.executable, "-c", program, "run", "test.yaml", "--parts", "2", "--cores", "2"]
    environment = os.environ | {"PYTHONPATH": str(work.path / "workflow_scripts"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=work.path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path: path.read_bytes() for path in expected} == expected
    assert (work.results / "balanced.parquet").read_bytes() == balanced and (work.results / "report.html").exists()
    new = sorted(set((work.path / ".snakemake" / "log").glob("*.events.jsonl")) - events)
    ran = [json.loads(line) for file in new for line in file.read_text().splitlines()]
    rules = [event["rule_name"] for event in ran if event["event"] == "job_info"]
    assert rules.count("generate_shard") == 1 and rules.count("score_shard") <= 3 and "train" not in rules
