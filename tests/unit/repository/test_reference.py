"""docs/reference/ says what the code says."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from synaug import config
from synaug.manifests import SORT_KEYS
from synaug.manifests.schemas import SCHEMAS
from synaug.reference import FILES, config_page, files, manifests_page

PAGES = files()
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("path", PAGES)
def test_the_committed_page_is_what_is_generated_now(repository, path):
    assert (repository / path).read_text() == PAGES[path], "run: python -m synaug.reference"


def test_every_key_of_every_block_is_described(repository):
    page = config_page()
    models = [one for one in vars(config).values() if isinstance(one, type) and issubclass(one, config.Block)]
    for key in {key for model in models for key in model.model_fields}:
        assert f"\n| `{key}` | " in page


def test_types_defaults_and_ranges_are_those_of_the_models():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", config_page(), re.MULTILINE))
    assert rows["image_size"].startswith("whole number | required | at least 8, at most 1024 | ")
    assert rows["strategy"].startswith("`largest`, `fixed`, `largest_of_class`, `largest_of_group` | `largest` |  | ")
    assert rows["stage2"].startswith("block [recipes.&lt;name>.stage2](#recipesnamestage2) or null | null |  | ")
    assert rows["oversample"].startswith("number | `1.0` | at least 1, at most 10 | ")


def test_links_between_blocks_lead_somewhere():
    page = config_page()
    anchors = {re.sub(r"[^\w -]", "", title).replace(" ", "-") for title in re.findall(r"^## (.*)$", page, re.M)}
    assert set(re.findall(r"\(#([\w-]+)\)", page)) <= anchors


def test_every_manifest_is_made_by_the_rule_that_the_page_names(repository):
    assert set(FILES) == set(SCHEMAS) == set(SORT_KEYS)
    rules = "\n".join(path.read_text() for path in (repository / "rules").glob("*.smk"))
    bodies = dict(re.findall(r"^ *(?:rule|checkpoint) (\w+):\n(.*?)(?=^ *(?:rule|checkpoint) |\Z)", rules, re.M | re.S))
    for kind, (_, made) in FILES.items():
        for path, rule in made:
            name = path.replace("{results}", "<results>").replace("<shard>", "{shard}")
            assert name.replace("<recipe>/<seed>", "{recipe}/{seed}") in rules
            assert f"{name.rpartition('/')[2]}" in bodies[rule] or (rule, kind) == ("compare_images", "features")


def test_a_manifest_page_has_every_column_once():
    page = manifests_page()
    for kind, schema in SCHEMAS.items():
        section = page.split(f"\n## {kind}\n")[1].split("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` ", section, re.M) == schema.names


@pytest.mark.parametrize("path", [ROOT / "config.yaml", *sorted((ROOT / "experiments").glob("*.yaml"))], ids=str)
def test_editors_find_nothing_wrong_in_a_config_of_this_repository(path):
    schema = json.loads((ROOT / "config.schema.json").read_text())
    settings = yaml.safe_load(path.read_text())
    jsonschema.validate(settings, schema)
    jsonschema.validate({**settings, "recipes": "auto"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**settings, "recipes": {"a": {"stage2": {}}}}, schema)
