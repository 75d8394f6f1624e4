"""The generator and the adapter that an experiment trains itself: which models are meant, and where they may be."""

import re

import pytest

from synaug.config import experiment, load_config
from synaug.runtime.errors import UserError

GOOD = {
    "experiment": "e",
    "dataset": {"source": "folder", "path": "images", "image_size": 28},
    "generation": {"model": "m"},
    "recipes": {"plain": {"data": "real"}},
}
SPELLINGS = ["results/e/own", "./results/e/own", "results/e/own/", "results//e/./own"]


def complaint(config) -> str:
    with pytest.raises(UserError) as error:
        load_config(config)
    return str(error.value)


@pytest.mark.parametrize("model", SPELLINGS)
@pytest.mark.parametrize("output", SPELLINGS)
def test_every_spelling_of_the_output_means_the_model_that_is_trained_here(output, model):
    adapter = model.replace("own", "adapter")
    config = load_config(
        GOOD
        | {"generator": {"images": "./results/e/real.parquet", "output": output}}
        | {"adaptation": {"output": output.replace("own", "adapter")}}
        | {"generation": {"model": model, "adapters": [{"kind": "lora", "model": adapter}]}}
        | {"fills": {"a": {}, "b": {"model": "people/large", "revision": "main"}}}
    )
    assert config.trains_model(config.generation.model)
    assert [config.trains_model(fill.model) for fill in config.fills.values()] == [True, False]
    adapters = [adapter.model for adapter in config.fills["a"].adapters]
    assert [config.trains_adapter(adapter) for adapter in adapters] == [True]
    # As the other rules of the workflow write these paths.
    assert config.generator.output == config.generation.model == "results/e/own"
    assert config.generator.images == "results/e/real.parquet"


def test_an_absolute_path_and_a_link_mean_the_model_that_is_trained_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("results")
    config = load_config(GOOD | {"generator": {"images": "real.parquet", "output": "results/e/own"}})
    assert config.trains_model(str(tmp_path / "results/e/own")) and config.trains_model("link/e/own")
    assert not config.trains_model("results/e") and not config.trains_adapter("results/e/own")


@pytest.mark.parametrize("model", ["people/small", "results/e/own", "/models/sd", "../sd", "link/../sd", "s3://b//sd/"])
def test_other_models_keep_their_names(model):
    adapters = [{"kind": "lora", "model": model}]
    generation = load_config(GOOD | {"generation": {"model": model, "adapters": adapters}}).generation
    assert generation.model == generation.adapters[0].model == model


@pytest.mark.parametrize("model", ["", " "])
def test_an_empty_path_is_still_refused(model):
    assert "must not be empty" in complaint(GOOD | {"generation": {"model": model}})


def test_a_fill_with_another_spelling_of_the_same_model_keeps_its_revision():
    generation = {"model": "models/sd", "variant": "fp16"}
    config = load_config(
        GOOD | {"generation": generation, "fills": {"a": {"model": "models/sd/", "steps": 5}, "b": {}}}
    )
    assert config.fills["a"].variant == "fp16"


@pytest.mark.parametrize("name", ["adaptation", "train", "shards", "shards/mine", "figures"])
def test_a_folder_that_the_workflow_uses_itself_is_refused(name):
    output = f"./results/e/{name}"
    expected = "is in a folder that the workflow uses itself; name another one, for example results/e/"
    assert f"adaptation.output: results/e/{name} {expected}adapter" in complaint(
        GOOD | {"adaptation": {"output": output}}
    )
    generator = {"images": "real.parquet", "output": output}
    assert f"generator.output: results/e/{name} {expected}generator" in complaint(GOOD | {"generator": generator})
    load_config(GOOD | {"experiment": "other", "adaptation": {"output": output}})


@pytest.mark.parametrize(
    ("generator", "adapter"), [("own", "own/adapter"), ("own/generator", "own"), ("own", "./own/")]
)
def test_generator_and_adapter_do_not_lie_in_each_other(generator, adapter):
    said = complaint(
        GOOD | {"generator": {"images": "real.parquet", "output": generator}, "adaptation": {"output": adapter}}
    )
    assert "generator.output and adaptation.output must not lie in each other" in said


def test_the_folders_of_the_rules_are_refused(repository):
    rules = "".join(path.read_text() for path in (repository / "rules").glob("*.smk"))
    assert set(re.findall(r"<results>/(\w+)/", rules)) <= experiment._USED_FOLDERS
