"""profiles/slurm beside what it has to agree with."""

import re

import pytest
import yaml


@pytest.fixture(scope="module")
def profile(repository) -> dict:
    return yaml.safe_load((repository / "profiles" / "slurm" / "profile.yaml").read_text())


def test_every_rule_that_it_names_exists(repository, profile):
    text = "".join(path.read_text() for path in (repository / "rules").glob("*.smk"))
    rules = set(re.findall(r"^ *(?:rule|checkpoint) (\w+):$", text, re.MULTILINE))
    assert set(profile["set-resources"]) <= rules


def test_it_repeats_the_default_profile_which_it_replaces(repository, profile):
    default = yaml.safe_load((repository / "profiles" / "default" / "profile.yaml").read_text())
    # A workstation counts its own devices; SLURM counts those of the cluster.
    for key in default.keys() - {"resources", "__use_yte__", "__definitions__"}:
        assert profile[key] == default[key], key
