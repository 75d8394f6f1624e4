"""Results in an S3 bucket, and every job in an empty folder of its own, as on machines that share no disk."""

import hashlib
import io
import logging
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from workdir import Run, Workdir, call

# Starts a job in a new folder, from which the checkout cannot be reached by a relative path, and says its number.
SUBMIT = """\
#!/bin/sh
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


@pytest.fixture(scope="module")
def bucket():
    """An empty bucket of a server on this machine: its address, and a client."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **CLIENT)
    client.create_bucket(Bucket="images")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    yield address, client
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
        command = [self.python, "-m", "snakemake", *arguments, "--configfile", "test.yaml", "--jobs", "2"]
        command += ["--default-storage-provider", "s3", "--default-storage-prefix", "s3://images/project"]
        command += ["--storage-s3-endpoint-url", self.address, "--shared-fs-usage", "none", "--job-deploy-sources"]
        command += ["--executor", "cluster-generic", "--seconds-between-status-checks", "1"]
        command += ["--cluster-generic-submit-cmd", str(self.path.parent / "submit")]
        command += ["--cluster-generic-status-cmd", str(self.path.parent / "status")]
        # What is installed is the same on all machines; the library is that of the checkout that was sent there.
        environment = os.environ | KEYS | {"PYTHONPATH": "workflow_scripts", "HF_HUB_OFFLINE": "1"}
        # A job that is sent away is started with the `python` of its machine.
        environment["PATH"] = f"{Path(self.python).parent}:{environment['PATH']}"
        return call(self.path, command, environment, timeout=900)


@pytest.fixture(scope="module")
def stored(finished, quick_python, bucket, tmp_path_factory):
    address, client = bucket
    path = tmp_path_factory.mktemp("storage") / "checkout"
    done = (".snakemake", "results", "logs", "__pycache__")
    shutil.copytree(finished.path, path, ignore=shutil.ignore_patterns(*done))
    work = Stored(path, address, quick_python)
    # The tables of images are in the bucket only; the small model goes with the checkout.
    table = pd.concat([pd.read_parquet(path / "data" / f"{split}.parquet") for split in ("train", "test")])
    table.to_parquet(path / "images.parquet")
    client.upload_file(str(path / "images.parquet"), "images", "project/data/images.parquet")
    (path / "images.parquet").unlink()
    shutil.rmtree(path / "data")
    work.change(dataset={"path": "data/images.parquet"})
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], cwd=path, check=True)
    work.first = work.run()
    return work


@pytest.fixture
def objects(bucket):
    """A function: name of everything in the bucket -> its contents."""
    _, client = bucket

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


def a_shard_that_is_gone_is_made_again(stored, bucket, objects):
    before = objects()
    name = min(name for name in before if "/shards/" in name)
    bucket[1].delete_object(Bucket="images", Key=f"project/{name}")
    again = stored.run()
    assert again.status == 0, again.text
    # Tables are made again: of a file in a storage Snakemake knows the time of its change, and no checksum.
    assert again.jobs.count("generate_shard") == 1
    assert not {"train", "finetune", "plan_generation"} & set(again.jobs)
    after = objects()
    for one in (name, "results/test/balanced.parquet", "results/test/metrics.parquet"):
        assert after[one] == before[one], one


def test_results_in_a_bucket(stored, finished, bucket, objects):
    """One test: several could go to several workers, and each of them would run the whole workflow."""
    every_job_was_sent_away(stored, finished)
    results_equal_those_of_a_local_run(stored, finished, objects)
    manifests_name_places_in_the_bucket(stored, objects)
    a_shard_that_is_gone_is_made_again(stored, bucket, objects)
