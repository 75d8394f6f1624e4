"""The profiles of clusters beside what they have to agree with; keys of plugins only where these are installed."""

import os
import re
from importlib.util import find_spec

import pytest
import yaml
import yte
from snakemake.cli import get_argument_parser

CLUSTERS = ["slurm", "lsf", "kubernetes", "aws-batch"]


def read(repository, name: str) -> dict:
    """A profile as Snakemake reads it."""
    with (repository / "profiles" / name / "profile.yaml").open() as file:
        return yte.process_yaml(file, require_use_yte=True)


@pytest.fixture(params=CLUSTERS)
def profile(repository, request) -> dict:
    return read(repository, request.param)


def test_every_rule_that_a_profile_names_exists(repository, profile):
    text = "".join(path.read_text() for path in (repository / "rules").glob("*.smk"))
    rules = set(re.findall(r"^ *(?:rule|checkpoint) (\w+):$", text, re.MULTILINE))
    assert set(profile["set-resources"]) | set(profile.get("set-threads", {})) <= rules


def test_every_rule_that_always_wants_a_gpu_gets_one_where_the_plugin_does_not_see_it(repository):
    wanting = set()
    for path in (repository / "rules").glob("*.smk"):
        blocks = re.split(r"^ *(?:rule|checkpoint) (\w+):$", path.read_text(), flags=re.MULTILINE)[1:]
        for rule, block in zip(blocks[::2], blocks[1::2], strict=True):
            if re.search(r"^ +gpu=(?!int\()", block, re.MULTILINE):
                wanting.add(rule)
    for cluster, key in (("lsf", "lsf_extra"), ("aws-batch", "_gpus")):
        resources = yaml.safe_load((repository / "profiles" / cluster / "profile.yaml").read_text())["set-resources"]
        assert {rule for rule, one in resources.items() if key in one} == wanting, cluster


def test_the_final_training_asks_for_what_every_training_asks_for(repository):
    """In a study the rules have other names, so that no profile can say it."""
    text = (repository / "rules" / "training.smk").read_text()
    asked = {}
    for rule in ("train", "train_final"):
        block = re.search(rf"^ *rule {rule}:$(.*?)^ *script:$", text, re.MULTILINE | re.DOTALL)[1]
        threads, resources = re.search(r" threads: (.*?)\n +resources:\n(.*?)\n +params:", block, re.DOTALL).groups()
        asked[rule] = threads, set(re.findall(r"^ +(\w+)=", resources, re.MULTILINE))
    assert asked["train_final"] == asked["train"]


def test_every_kind_of_submission_that_the_slurm_profile_names_exists(repository):
    text = "".join(path.read_text() for path in (repository / "rules").glob("*.smk"))
    profile = read(repository, "slurm")
    assert set(profile["group-components"]) <= set(re.findall(r"share_submissions\(\"(\w+)\"", text))
    assert profile["default-resources"]["turn"] == 1  # or the jobs of a submission ask for the GPUs of all of them


def test_every_key_is_one_of_snakemake_or_of_the_plugin(profile):
    actions = get_argument_parser()._actions
    unknown = profile.keys() - {option.removeprefix("--") for action in actions for option in action.option_strings}
    if not find_spec(f"snakemake_executor_plugin_{profile['executor'].replace('-', '_')}"):
        unknown = {key for key in unknown if not key.startswith(f"{profile['executor']}-")}
    assert unknown == set()


@pytest.mark.parametrize(
    ("named", "visible", "gpus"),
    [
        (None, None, 4),
        ("", None, 4),
        (None, "0,2", 2),
        (None, "", 1000),
        ("cpu", None, 1000),
        ("cpu", "0,2", 1000),
        ("cuda:0, cuda:3", None, 2),
        ("cuda:1", "0,2", 1),
    ],
)
def test_as_many_jobs_use_gpus_as_there_are_gpus_that_they_may_use(repository, monkeypatch, named, visible, gpus):
    monkeypatch.setattr("glob.glob", lambda pattern: [f"/dev/nvidia{number}" for number in range(4)])
    for variable, value in (("SYNAUG_DEVICES", named), ("CUDA_VISIBLE_DEVICES", visible)):
        monkeypatch.delenv(variable, raising=False) if value is None else monkeypatch.setenv(variable, value)
    assert read(repository, "default")["resources"]["gpu"] == gpus


def test_a_profile_repeats_the_default_one_which_it_replaces(repository, profile):
    default = read(repository, "default")
    assert default["logger"] == ["synaug"]
    # A workstation counts its own devices; a cluster counts its own.
    for key in default.keys() - {"resources"}:
        assert profile[key] == default[key], key


def test_memory_and_threads_for_aws_batch_are_pairs_that_it_takes(repository):
    # For others the plugin takes the least memory there is for that many threads, and only warns.
    taken = pytest.importorskip("snakemake_executor_plugin_aws_batch.constant").VALID_RESOURCES_MAPPING
    profile = yaml.safe_load((repository / "profiles" / "aws-batch" / "profile.yaml").read_text())
    for rule, resources in profile["set-resources"].items():
        if "mem_mb" in resources:
            assert profile["set-threads"][rule] in taken[resources["mem_mb"]], rule
    assert {1, 2} <= set(taken[profile["default-resources"]["mem_mb"]])


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0")])
def test_jobs_on_slurm_are_offline_unless_the_user_says_otherwise(repository, monkeypatch, before, after):
    """The plugin passes the environment of Snakemake to the jobs."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    if before:
        monkeypatch.setenv("HF_HUB_OFFLINE", before)
    read(repository, "slurm")
    assert os.environ["HF_HUB_OFFLINE"] == after
