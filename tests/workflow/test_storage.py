"""Results in an S3 bucket, and every job in an empty folder of its own, as on machines that share no disk.

`pytest -rP tests/workflow/test_storage.py` also prints what the jobs asked of the bucket,
the table of docs/clusters.md.
"""

import hashlib
import io
import logging
import os
import re
import shutil
import subprocess
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from workdir import Run, Workdir, call

# Starts a job in a new folder, from which the checkout cannot be reached by a relative path, and says its number. The
# job's requests carry the name of its rule.
SUBMIT = """\
#!/bin/sh
export AWS_SDK_UA_APP_ID=$(sed -n "s/.*--target-jobs '\\([a-z_]*\\).*/\\1/p" "$1")
folder=$(mktemp -d {nodes}/XXXXXX)
(cd "$folder" && setsid sh "$1" > out 2>&1; echo $? > exit_status) > /dev/null 2>&1 &
echo "$folder"
"""
STATUS = """\
#!/bin/sh
case $(cat "$1/exit_status" 2> /dev/null) in
    "") echo running ;;
    0) echo success ;;
    *) echo failed ;;
esac
"""
KEYS = {"SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "nobody", "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "nothing"}
CLIENT = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"}


class Requests:
    """The application of a server, which counts the requests of each kind and the bytes, by the rule that asked."""

    def __init__(self, application):
        self.application, self.counts, self.lock = application, defaultdict(Counter), threading.Lock()

    def __call__(self, environ, start_response):
        rule = re.search(r" app/(\w+)", environ.get("HTTP_USER_AGENT", ""))
        kind, is_of_bucket = environ["REQUEST_METHOD"], "/" not in environ["PATH_INFO"].strip("/")
        answer = list(self.application(environ, start_response))
        with self.lock:
            counts = self.counts[rule[1] if rule else "snakemake"]
            counts["LIST" if kind == "GET" and is_of_bucket else kind] += 1
            counts["bytes up"] += int(environ.get("CONTENT_LENGTH") or 0)
            counts["bytes down"] += sum(map(len, answer))
        return answer

    def of_jobs(self, jobs: list[str]) -> pd.DataFrame:
        """What was counted, and how many of `jobs` there were. snakemake: by the process that starts the jobs."""
        table = pd.DataFrame.from_dict(self.counts, orient="index").fillna(0).astype(int)
        table["jobs"] = pd.Series(Counter(jobs)).reindex(table.index, fill_value=1)
        return table[["jobs", "GET", "PUT", "HEAD", "LIST", "bytes down", "bytes up"]].sort_index()


@dataclass
class Bucket:
    """An empty bucket of a server on this machine."""

    address: str
    client: Any
    requests: Requests


@pytest.fixture(scope="module")
def bucket():
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **CLIENT)
    client.create_bucket(Bucket="images")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server._server.app = requests = Requests(server._server.app)
    yield Bucket(address, client, requests)
    server.stop()


class Stored(Workdir):
    """A checkout whose results are in the bucket."""

    def __init__(self, path: Path, address: str, python: str):
        super().__init__(path, python=python)
        self.address, self.nodes = address, path.parent / "nodes"
        self.nodes.mkdir()
        for name, text in (("submit", SUBMIT), ("status", STATUS)):
            (path.parent / name).write_text(text.format(nodes=self.nodes) if name == "submit" else text)
            (path.parent / name).chmod(0o755)

    def run(self, *arguments: str) -> Run:
        command = ["--jobs", "2", "--shared-fs-usage", "none", "--job-deploy-sources"]
        command += ["--executor", "cluster-generic", "--seconds-between-status-checks", "1"]
        command += ["--cluster-generic-submit-cmd", str(self.path.parent / "submit")]
        command += ["--cluster-generic-status-cmd", str(self.path.parent / "status")]
        return self.run_here(*arguments, *command)

    def run_here(self, *arguments: str) -> Run:
        """Call snakemake; its jobs run on this machine and in this folder, unless `arguments` send them away."""
        command = [self.python, "-m", "snakemake", *arguments, "--configfile", "test.yaml"]
        command += ["--default-storage-provider", "s3", "--default-storage-prefix", "s3://images/project"]
        command += ["--storage-s3-endpoint-url", self.address]
        # What is installed is the same on all machines; the library is that of the checkout that was sent there.
        environment = os.environ | KEYS | {"PYTHONPATH": "workflow_scripts", "HF_HUB_OFFLINE": "1"}
        # A job that is sent away is started with the `python` of its machine.
        environment["PATH"] = f"{Path(self.python).parent}:{environment['PATH']}"
        return call(self.path, command, environment, timeout=900)


@pytest.fixture(scope="module")
def stored(finished, quick_python, bucket, tmp_path_factory):
    path = tmp_path_factory.mktemp("storage") / "checkout"
    done = (".snakemake", "results", "logs", "__pycache__")
    shutil.copytree(finished.path, path, ignore=shutil.ignore_patterns(*done))
    work = Stored(path, bucket.address, quick_python)
    # The tables of images are in the bucket only; the small model goes with the checkout.
    table = pd.concat([pd.read_parquet(path / "data" / f"{split}.parquet") for split in ("train", "test")])
    table.to_parquet(path / "images.parquet")
    bucket.client.upload_file(str(path / "images.parquet"), "images", "project/data/images.parquet")
    (path / "images.parquet").unlink()
    shutil.rmtree(path / "data")
    work.change(dataset={"path": "data/images.parquet"})
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], cwd=path, check=True)
    bucket.requests.counts.clear()
    work.first = work.run()
    work.asked = bucket.requests.of_jobs(work.first.jobs)
    return work


@pytest.fixture
def objects(bucket):
    """A function: name of everything in the bucket -> its contents."""
    client = bucket.client

    def objects() -> dict[str, bytes]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="images")
        keys = [one["Key"] for page in pages for one in page.get("Contents", [])]
        return {
            key.removeprefix("project/"): client.get_object(Bucket="images", Key=key)["Body"].read() for key in keys
        }

    return objects


def every_job_was_sent_away(stored, finished):
    assert stored.first.status == 0, stored.first.text
    assert stored.first.jobs == finished.first.jobs
    assert len(list(stored.nodes.iterdir())) == len(stored.first.jobs)


def results_equal_those_of_a_local_run(stored, finished, objects):
    there = objects()
    for name in ("results", "logs", "data"):
        assert not (stored.path / name).exists()
    local = {str(file.relative_to(finished.path)): file for file in finished.results.rglob("*") if file.is_file()}
    same = [name for name in local if "/shards/" in name or name.endswith(("model.safetensors", "predictions.parquet"))]
    assert len(same) > 6
    for name in same:
        assert hashlib.sha256(there[name]).digest() == hashlib.sha256(local[name].read_bytes()).digest(), name
    undeclared = ("results/test/costs/", "results/test/pixels/")
    declared = {name for name in local if not name.startswith(undeclared)}
    assert declared <= there.keys()


def manifests_name_places_in_the_bucket(stored, objects):
    balanced = pd.read_parquet(io.BytesIO(objects()["results/test/balanced.parquet"]))
    named = set(balanced["path"])
    assert "data/images.parquet" in named
    assert named - {"data/images.parquet"} == {name for name in named if name.startswith("results/test/shards/")}


def a_shard_costs_few_requests(stored, objects):
    print(stored.asked.to_string())
    asked = stored.asked.loc["generate_shard"]
    assert asked[["GET", "HEAD", "LIST", "PUT"]].sum() <= 40 * asked["jobs"]
    # The job gets the checkout and the plan, and sends the shard, its log and its benchmark: nothing twice.
    shards = sum(len(content) for name, content in objects().items() if "/shards/" in name)
    assert shards < asked["bytes up"] < shards + 4_000 * asked["jobs"]


def an_interrupted_shard_goes_on_where_jobs_share_a_disk(stored, bucket, objects):
    """The shard that is asked for by name is made, and nothing else."""
    before = objects()
    name = max((name for name in before if "/shards/" in name), key=lambda name: len(before[name]))
    # What a killed job leaves: its work folder, beside the local copies that Snakemake keeps of a bucket's objects.
    work = stored.path / ".snakemake/storage/s3/images/project" / name.replace("/shards/", "/work/")
    work.with_suffix("").mkdir(parents=True)
    pq.write_table(pq.read_table(io.BytesIO(before[name])).slice(0, 3), work.with_suffix("") / "batch.parquet")
    bucket.client.delete_object(Bucket="images", Key=f"project/{name}")
    done = stored.run_here(name, "--cores", "1")
    assert done.jobs == ["generate_shard"], done.text
    after = objects()
    log = name.replace("results/test/shards", "logs/test/generate_shard").replace(".parquet", ".log")
    assert ": 3 finished before," in after[log].decode()
    assert after[name] == before[name]
    assert not {"train", "finetune", "evaluate"} & set(stored.run("-n").jobs)


def an_interrupted_shard_goes_on_from_the_bucket_where_machines_share_nothing(stored, bucket, objects):
    before = objects()
    name = max((name for name in before if "/shards/" in name), key=lambda name: len(before[name]))
    address = bucket.address.removeprefix("http://")
    place = f"s3://images/batches?endpoint_override={address}&scheme=http"
    stored.change(generation={"keep_batches_in": place})
    # What a job has sent before its machine was taken away.
    batch = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(before[name])).slice(0, 3), batch)
    batches = f"batches/{Path(name).stem}/batch.parquet"
    bucket.client.put_object(Bucket="images", Key=batches, Body=batch.getvalue())
    bucket.client.delete_object(Bucket="images", Key=f"project/{name}")
    done = stored.run(name)
    assert done.jobs == ["generate_shard"], done.text
    after = objects()
    log = name.replace("results/test/shards", "logs/test/generate_shard").replace(".parquet", ".log")
    assert ": 3 finished before," in after[log].decode()
    assert after[name] == before[name]
    assert not [name for name in after if name.startswith("batches/") and name.endswith(".parquet")]


def a_shard_that_is_gone_is_made_again(stored, bucket, objects):
    before = objects()
    name = min(name for name in before if "/shards/" in name)
    bucket.client.delete_object(Bucket="images", Key=f"project/{name}")
    again = stored.run()
    assert again.status == 0, again.text
    # Tables are made again: of a file in a storage Snakemake knows the time of its change, and no checksum.
    assert again.jobs.count("generate_shard") == 1
    assert not {"train", "finetune", "plan_generation"} & set(again.jobs)
    after = objects()
    for one in (name, "results/test/balanced.parquet", "results/test/metrics.parquet"):
        assert after[one] == before[one], one


def training_an_adapter_into_the_bucket_is_refused(stored):
    stored.change(adaptation={"output": "own_adapter"})
    refused = stored.run("-n")
    assert refused.status != 0
    assert "synaug: error: adaptation: adapt_generator writes to a folder of this machine" in refused.text


@pytest.mark.slow
def test_results_in_a_bucket(stored, finished, bucket, objects):
    """One test: several could go to several workers, and each of them would run the whole workflow."""
    every_job_was_sent_away(stored, finished)
    results_equal_those_of_a_local_run(stored, finished, objects)
    manifests_name_places_in_the_bucket(stored, objects)
    a_shard_costs_few_requests(stored, objects)
    an_interrupted_shard_goes_on_where_jobs_share_a_disk(stored, bucket, objects)
    an_interrupted_shard_goes_on_from_the_bucket_where_machines_share_nothing(stored, bucket, objects)
    a_shard_that_is_gone_is_made_again(stored, bucket, objects)
    training_an_adapter_into_the_bucket_is_refused(stored)
