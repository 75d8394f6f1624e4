"""The workflow imported by another one, from another folder."""

import shutil

import pytest
import yaml
from workdir import Workdir

from synaug.manifests import read_manifest

OUTER = """\
configfile: "test.yaml"

module synaug:
    snakefile:
        "../checkout/Snakefile"
    config:
        config["synaug"]

use rule * from synaug as synaug_*

rule count:
    default_target: True
    input:
        "results/theirs/balanced.parquet",
    output:
        "count.txt",
    shell:
        "ls {input} > {output}"
"""


@pytest.fixture(scope="module")
def outer(finished, quick_python, tmp_path_factory) -> Workdir:
    """A folder with a workflow of its own beside a checkout that it imports; data and generator are in that folder.

    It has been run (`first`): the tests of this file may be in different processes.
    """
    checkout = tmp_path_factory.mktemp("module") / "checkout"
    done = (".snakemake", "results", "logs", "data", "model", "test.yaml")
    shutil.copytree(finished.path, checkout, ignore=shutil.ignore_patterns(*done))
    folder = checkout.parent / "theirs"
    folder.mkdir()
    for name in ("data", "model", "profiles"):
        shutil.copytree(finished.path / name, folder / name)
    config = yaml.safe_load((finished.path / "test.yaml").read_text()) | {"experiment": "theirs"}
    # A key of the outer workflow that this one has too.
    (folder / "test.yaml").write_text(yaml.safe_dump({"synaug": config, "dataset": "theirs"}))
    (folder / "Snakefile").write_text(OUTER)
    work = Workdir(folder, checkout, quick_python)
    work.first = work.run()
    return work


def test_an_imported_workflow_runs_with_prefixed_rules_in_the_folder_of_the_other(outer):
    done = outer.first
    assert done.status == 0, done.text
    assert done.jobs.count("synaug_generate_shard") >= 2  # found behind a checkpoint with a prefix
    assert {job for job in done.jobs if not job.startswith("synaug_")} == {"count"}
    balanced = read_manifest("balanced", outer.path / "results" / "theirs" / "balanced.parquet")
    assert set(balanced["label_name"].value_counts()) == {9}
    assert not (outer.path.parent / "checkout" / "results").exists()


def test_its_code_is_followed_where_it_stands(outer):
    assert "Nothing to be done" in outer.run("-n").text
    with (outer.path.parent / "checkout" / "workflow_scripts" / "synaug" / "balance.py").open("a") as file:
        file.write("CHANGED = True\n")  # a comment would not count
    assert outer.run("-n").jobs == ["count", "synaug_build_balanced_manifest"]


def test_a_mistake_in_its_config_is_said_in_one_line(outer):
    done = outer.run("-n", "--config", 'synaug={"experiment": "theirs", "dataset": {"source": "tabel"}}')
    assert done.status == 1 and "synaug: error: config: dataset.source" in done.text, done.text
    assert "Traceback" not in done.text
