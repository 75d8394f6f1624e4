"""Prompts that are longer than the text encoder reads: an error that names the prompt, its tokens and the limit."""

import json
import shutil

import pandas as pd
import pytest
import yaml

from synaug.config import Generation, load_config
from synaug.plan.prompt_length import check_lengths, read_text_encoders
from synaug.plan.prompts import cell_prompts
from synaug.plan.rows import plan_from_settings
from synaug.runtime.errors import UserError

EMBEDDED = "resources/embedded_generator"
LONG = "a photo of a {label}, against a cluttered background"


@pytest.fixture
def plan_with(cells, repository, monkeypatch):
    """A function: the plan of t-shirts and coats with some prompts, of a local model."""
    monkeypatch.chdir(repository)

    def plan_with(prompts: dict, model: str = EMBEDDED, **generation) -> pd.DataFrame:
        settings = {
            "balance": {}, "prompts": prompts, "generation": {"model": str(model), "size": 32, **generation},
            "seed": 0, "image_size": 28, "color": "grey",
        }  # fmt: skip
        return plan_from_settings(cells({"t-shirt": 5, "coat": 3, "bag": 1}), settings, None)

    return plan_with


def test_a_prompt_that_would_be_cut_is_an_error_when_it_is_planned(plan_with):
    with pytest.raises(UserError) as error:
        plan_with({"templates": ["a {label}", LONG]})
    assert str(error.value) == (
        "prompts: 'a photo of a coat, against a cluttered background' has 33 tokens (and 1 more), and the text encoder "
        "of resources/embedded_generator reads 24; the rest would be ignored; shorten the template, modifier or name, "
        "or set prompts.truncate: true"
    )


def test_a_negative_prompt_that_would_be_cut_is_an_error_too(plan_with):
    with pytest.raises(UserError, match=r"prompts: 'blurred, .* tokens, and the text encoder"):
        plan_with({"negative": "blurred, distorted, with a watermark in the corner"})


def test_with_truncate_it_is_planned_with_the_same_ids_as_before_and_recorded(plan_with, monkeypatch):
    accepted = plan_with({"templates": [LONG], "truncate": True})
    assert accepted["truncate"].all()
    monkeypatch.setattr("synaug.plan.rows.read_text_encoders", lambda generation: [])  # not on this machine
    unchecked = plan_with({"templates": [LONG]})
    assert not unchecked["truncate"].any()
    assert unchecked["image_id"].tolist() == accepted["image_id"].tolist()


def test_prompts_of_24_tokens_and_less_are_planned(plan_with):
    assert len(plan_with({"templates": ["a photo of a {label}, seen from the side"][:1]})) == 6


def test_a_class_of_a_class_conditional_model_is_no_text(plan_with):
    plan_with({"templates": ["{label} " * 30]}, pipeline="class-conditional")


def test_a_word_of_textual_inversion_and_a_faulty_tokenizer_are_left_to_the_loaded_model(repository, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(repository / EMBEDDED, folder)
    assert [encoder.limit for encoder in read_text_encoders(Generation(model=str(folder)))] == [24]
    adapter = {"kind": "textual_inversion", "model": "m", "token": "<word>"}
    assert read_text_encoders(Generation(model=str(folder), adapters=[adapter])) == []
    (folder / "tokenizer" / "tokenizer_config.json").write_text("{")
    assert read_text_encoders(Generation(model=str(folder))) == []


def test_a_prompt_that_one_encoder_reads_to_the_end_is_not_lost(repository, tmp_path):
    """As with FLUX and SD3, whose T5 reads more than their CLIP."""
    folder = tmp_path / "model"
    shutil.copytree(repository / EMBEDDED, folder)
    shutil.copytree(folder / "tokenizer", folder / "tokenizer_2")
    file = folder / "tokenizer_2" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": 40}))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"tokenizer_2": index["tokenizer"]}))
    encoders = read_text_encoders(Generation(model=str(folder)))
    check_lengths([LONG], encoders, "m")
    with pytest.raises(UserError, match="reads 40"):
        check_lengths([LONG * 2], encoders, "m")


def configs(folder) -> list:
    files = [folder / "config.yaml", *sorted((folder / "experiments").glob("*.yaml"))]
    return [pytest.param(file, id=file.stem) for file in files if EMBEDDED in file.read_text()]


def pytest_generate_tests(metafunc):
    if "embedded_config" in metafunc.fixturenames:
        metafunc.parametrize("embedded_config", configs(metafunc.config.rootpath))


def test_the_embedded_generator_reads_all_prompts_of_the_experiments_that_use_it(
    embedded_config, repository, monkeypatch
):
    monkeypatch.chdir(repository)
    config = load_config(yaml.safe_load(embedded_config.read_text()))
    groups = config.dataset.group_columns
    values = [name for name in config.prompts.names if groups] or ["blue"]
    cells = pd.DataFrame({"label_name": list(config.prompts.names)})
    if groups:
        cells["attributes"] = [[values[i % len(values)]] * len(groups) for i in range(len(cells))]
    texts = [text for prompts in cell_prompts(config.prompts, cells, groups) for text in prompts]
    assert texts
    check_lengths(texts, read_text_encoders(Generation(model=EMBEDDED)), EMBEDDED)
