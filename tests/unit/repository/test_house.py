"""Promises of the repository about itself."""

import re

import pytest
import yaml

from synaug.reference import schema_text


def test_the_json_schema_is_the_one_of_the_models(repository):
    assert (repository / "config.schema.json").read_text() == schema_text(), "run: python -m synaug.reference"


def test_every_config_of_the_repository_is_valid(repository):
    from synaug.config import load_config

    for path in [repository / "config.yaml", *(repository / "experiments").glob("*.yaml")]:
        load_config(yaml.safe_load(path.read_text()))


def test_config_yaml_explains_every_key(repository):
    """The manual leaves nothing out: every key of every model stands in it."""
    from synaug import config

    text = (repository / "config.yaml").read_text()
    models = [one for one in vars(config).values() if isinstance(one, type) and issubclass(one, config.Block)]
    keys = {key for model in models for key in model.model_fields}
    assert {key for key in keys if not re.search(rf"^[#\s]*(\w+, )*{key}(, \w+)*:", text, re.MULTILINE)} == set()


@pytest.mark.parametrize("name", ["data", "torch"])
def test_conda_environments_have_the_pins_of_the_lock(repository, name):
    lock = (repository / "requirements.lock").read_text().splitlines()
    environment = yaml.safe_load((repository / "envs" / f"{name}.yaml").read_text())
    for pin in environment["dependencies"][-1]["pip"]:
        assert pin in {line.split(" ;")[0] for line in lock}


def test_the_lock_holds_names_and_versions_only(repository):
    for line in (repository / "requirements.lock").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+( ;.*)?", line), line


def test_every_rule_file_says_what_it_does_and_what_goes_in_and_out(repository):
    for path in (repository / "rules").glob("*.smk"):
        head = path.read_text().split('"""')[1]
        assert path.read_text().startswith('"""')
        assert "Inputs:" in head and "Outputs:" in head, path


def test_every_script_is_named_like_its_rule_and_lies_in_the_folder_of_its_rule_file(repository):
    scripts = {path.relative_to(repository / "workflow_scripts") for path in repository.glob("workflow_scripts/*/*.py")}
    packages = ("synaug", "snakemake_logger_plugin_synaug")
    scripts = {str(path) for path in scripts if path.parts[0] not in packages}
    called = set()
    for path in (repository / "rules").glob("*.smk"):
        blocks = re.split(r"^ *(?:rule|checkpoint) (\w+):$", path.read_text(), flags=re.MULTILINE)[1:]
        for rule, block in zip(blocks[::2], blocks[1::2], strict=True):
            if script := re.search(r'"\.\./workflow_scripts/(\S+)"', block):
                assert script[1] == f"{path.stem}/{rule}.py"
                assert re.search(r"message:\n +\"[A-Z]", block), f"rule {rule} has no message"
                called.add(script[1])
    assert called == scripts


def test_every_test_file_has_a_name_of_its_own(repository):
    """pytest imports them by name: with two of one name, a run of the whole folder leaves one of them out."""
    names = [path.name for path in (repository / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
