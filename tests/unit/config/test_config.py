"""Configs: defaults, inheritance, and the one line that names the key, the value and what is allowed."""

import copy

import pandas as pd
import pytest
import yaml

from synaug.config import Config, load_config
from synaug.plan.targets import wanted_counts
from synaug.runtime.errors import UserError

GOOD = {
    "experiment": "e",
    "dataset": {"source": "folder", "path": "images", "image_size": 28},
    "generation": {"model": "m"},
    "recipes": {"plain": {"data": "real"}},
}


def changed(key: str, value) -> dict:
    """GOOD with `key` (dotted) set to `value`."""
    config = copy.deepcopy(GOOD)
    *blocks, last = key.split(".")
    block = config
    for name in blocks:
        block = block.setdefault(name, {})
    block[last] = value
    return config


def complaint(config) -> str:
    with pytest.raises(UserError) as error:
        load_config(config)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("split", ["test", "val"])
def test_stage_2_is_trained_on_the_training_or_the_validation_split_only(split):
    config = changed("recipes.plain.stage2", {"method": "dfr", "split": split})
    assert f"recipes.plain.stage2.split: '{split}' must be the training or the validation split" in complaint(config)
    config["dataset"] = config["dataset"] | {"validation_split": "val"}
    if split == "val":
        assert load_config(config).recipes["plain"].stage2.split == "val"
    else:
        assert "(train, val)" in complaint(config)


def test_the_smallest_config_has_the_defaults_of_the_paper():
    config = load_config(GOOD)
    assert config.balance.strategy == "largest"
    assert config.seeds == [0, 1, 2]


def test_unknown_key_in_a_list_of_blocks_is_named_with_the_allowed_ones():
    message = complaint(changed("generation.adapters", [{"kind": "lora", "model": "m", "strength": 1}]))
    assert "generation.adapters.0.strength: unknown key; allowed here: file, kind, model" in message


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("generation.steps", [10, 0], "should be 1 to 1000"),
        ("generation.guidance", [], "should be 0 to 100"),
        ("generation.strength", 0.5, "strength is for pipeline: image-to-image; leave it out"),
        ("generation.pipeline", "image-to-image", "strength is needed with pipeline: image-to-image; add it"),
        ("generation.adapters", [{"kind": "textual_inversion", "model": "m"}], "token is needed with kind"),
        ("prompts.templates", ["a {modifier} {label}"], "modifiers is needed with {modifier}"),
        ("prompts.modifiers", ["old"], "modifiers is for {modifier} in a template; leave it out"),
        (
            "generation",
            {"model": "m", "pipeline": "class-conditional", "original_size": 1024},
            "original_size has no effect with pipeline: class-conditional; leave it out",
        ),
        ("dataset.label_column", "species", "label_column is for source: table, webdataset, huggingface, utkface"),
        ("dataset.image_column", "picture", "image_column is for source: table, huggingface; leave it out"),
        ("dataset.split_column", "part", "split_column is for source: table; leave it out"),
        (
            "dataset",
            GOOD["dataset"] | {"source": "table", "split_column": "part", "make_splits": {"test": 0.2}},
            "split_column has no effect with the test split in make_splits, which replaces all splits; leave it out",
        ),
        (
            "screening.classifier",
            {"model": "network.safetensors", "steps": 5},
            "screening.classifier: steps has no effect with model; leave it out",
        ),
        (
            "generation.adapters",
            [{"kind": "lora", "model": "a/b.safetensors", "file": "c.safetensors"}],
            "generation.adapters.0: file has no effect with a model that is a file; leave it out",
        ),
        (
            "recipes.plain.stage2",
            {"sampling": "class_balanced"},
            "recipes.plain.stage2: sampling: is for images_per_class: all; leave it out",
        ),
    ],
)
def test_keys_that_need_each_other(key, value, expected):
    assert expected in complaint(changed(key, value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, "generation.scheduler: 3: should be text; put it into quotes or a block of keys"),
        ({"timestep_spacing": "trailing"}, "generation.scheduler.name: is missing and has no default; add it"),
        (
            {"name": "X", "a": {"b": 1}},
            "generation.scheduler: should be text or a: {'b': 1} should be text, true, false",
        ),
        (
            {"name": "X", "a": [1, float("inf")]},
            "a: inf should be text, true, false, a finite number or a list of these",
        ),
    ],
)
def test_a_wrong_scheduler_is_one_line(value, expected):
    assert expected in complaint(changed("generation.scheduler", value))


@pytest.mark.parametrize(
    "changes", [{"make_splits": {"test": 0.2}}, {"split_column": "fold"}, {"imbalance_factor": 10}]
)
def test_a_generator_is_not_trained_on_images_that_may_be_held_out(changes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("data")
    dataset = {"source": "table", "path": "./data", "image_size": 32, "label_column": "name", **changes}
    config = {**GOOD, "experiment": "x", "dataset": dataset}
    inside = ["data/part.parquet", str(tmp_path / "data/part.parquet"), "link/part.parquet", "data"]
    for images in (*inside, "results/x/dataset.parquet"):
        said = complaint({**config, "generator": {"images": images, "output": "own"}})
        assert f"which images of {images} are held out or left out; give results/x/real.parquet" in said
    for images in ("results/x/real.parquet", "data.parquet", "other/dataset.parquet"):
        load_config({**config, "generator": {"images": images, "output": "own"}})
    here = {**config, "dataset": dataset | {"path": "."}}
    load_config({**here, "generator": {"images": "results/x/real.parquet", "output": "own"}})


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("batches", "must begin with /, s3://, gs:// or abfs://; correct it"),
        ("s3:///batches", "must begin with /"),
        ("s3://key:hid/den@bucket/batches", "keys must not stand in an address"),
        ("s3://key:hidden@bucket/batches", "keys must not stand in an address"),
        ("s3://bucket/batches?secret_key=hidden&scheme=http", "keys must not stand in an address"),
        ("s3://bucket/batches?scheme=http&sas=hidden", "keys must not stand in an address"),
    ],
)
def test_a_place_for_batches_is_complete_and_has_no_keys(place, expected):
    said = complaint(changed("generation.keep_batches_in", place))
    assert f"generation: keep_batches_in: {expected}" in said
    assert "hidden" not in said


@pytest.mark.parametrize(
    "place",
    [
        "/mnt/R&D/batches",
        "s3://bucket/batches?endpoint_override=h:9000&scheme=http",
        "abfs://container@account/batches",
    ],
)
def test_a_place_for_batches_may_be_a_folder_or_an_address(place):
    assert load_config(changed("generation.keep_batches_in", place)).generation.keep_batches_in == place


def test_options_of_a_scheduler_may_come_from_the_command_line_as_texts():
    given = {"name": "X", "flow_shift": "3", "use_flow_sigmas": "true", "timestep_spacing": "trailing"}
    scheduler = load_config(changed("generation.scheduler", given)).generation.scheduler
    assert scheduler.model_extra == {"flow_shift": 3, "use_flow_sigmas": True, "timestep_spacing": "trailing"}


def test_a_class_conditional_model_has_no_negative_prompt():
    config = changed("prompts.negative", "blurry")
    config["generation"]["pipeline"] = "class-conditional"
    assert complaint(config) == (
        "config: prompts.negative: 'blurry' has no effect with generation.pipeline: class-conditional; leave it out"
    )


def test_config_of_the_repository_is_valid(repository):
    config = load_config(yaml.safe_load((repository / "config.yaml").read_text()))
    assert config.experiment == "fashion_mnist_lt"
    assert {"real", "synaug"} <= set(config.recipes)


@pytest.mark.parametrize(
    ("block", "allowed"),
    [
        ("", "dataset"),
        ("dataset", "image_size"),
        ("imbalance", "many_above"),
        ("balance", "strategy"),
        ("prompts", "templates"),
        ("generation", "guidance"),
        ("screening", "min_contrast"),
        ("training", "learning_rate"),
        ("training.mixup", "alpha"),
        ("recipes.plain", "stage1"),
        ("recipes.plain.stage1", "learning_rate"),
        ("recipes.plain.stage1.mixup", "alpha"),
        ("recipes.plain.stage2", "images_per_class"),
        ("generator", "denoiser_steps"),
    ],
)
def test_unknown_key_is_named_with_the_allowed_ones(block, allowed):
    key = f"{block}.surprise".lstrip(".")
    message = complaint(changed(key, 1))
    assert f"{key}: unknown key" in message
    assert allowed in message.split(f"{key}: unknown key", 1)[1]


def test_a_typo_under_training_is_reported_once():
    assert complaint(changed("training.learningrate", 0.1)).count("learningrate") == 1


def test_null_and_true_that_come_as_text_are_not_names():
    """Also of keys that may have a text."""
    changes = {"evaluation": {"baseline": "null"}, "training": {"backbone": "timm/resnet18", "pretrained": "true"}}
    config = load_config({**GOOD, **changes})
    assert config.evaluation.baseline is None and config.training.pretrained is True
    assert load_config({**GOOD, "training": {"pretrained": "false"}}).training.pretrained is False


def test_numbers_that_come_as_text_from_the_command_line_are_numbers():
    config = load_config(changed("training", {"steps": "150", "learning_rate": "0.5", "flip": "false"}))
    assert (config.training.steps, config.training.learning_rate, config.training.flip) == (150, 0.5, False)
    assert load_config(changed("seeds", ["0", "3"])).seeds == [0, 3]
    assert load_config(changed("prompts.negative", "12")).prompts.negative == "12"


@pytest.mark.parametrize(
    ("value", "expected"), [("auto", "auto"), (True, True), (False, False), ("false", False), ("true", True)]
)
def test_compiling_is_decided_automatically_or_by_the_user(value, expected):
    assert load_config(GOOD).generation.compile == "auto"
    assert load_config(changed("generation.compile", value)).generation.compile is expected


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("dataset.image_size", "28px", "whole number"),
        ("dataset.image_size", 4, "at least 8"),
        ("dataset.color", "gray", "'grey' or 'rgb'"),
        ("dataset.source", "zip", "'table', 'folder'"),
        ("generation.size", 30, "multiple of 8"),
        ("generation.steps", True, "a whole number or a list"),
        ("generation.guidance", "high", "number"),
        ("generation.compile", "sometimes", "true or false or 'auto'"),
        ("seeds", [0, "one"], "whole number"),
        ("recipes.plain.stage1", {"flip": "maybe"}, "true or false"),
        ("recipes.plain.stage1", {"backbone": "resnet50"}, "resnet8"),
        ("training", 5, "block of keys"),
        ("experiment", "../elsewhere", "pattern"),
        ("balance.amount", 1e9, "at most 1000"),
        ("recipes.plain.stage2", {"steps": 1}, "at least 2"),
        ("recipes", {}, "not be empty"),
    ],
)
def test_wrong_value_is_shown_with_what_is_allowed(key, value, allowed):
    message = complaint(changed(key, value))
    assert key in message
    assert allowed in message
    shown = next(iter(value.values())) if isinstance(value, dict) and value else value
    assert repr(shown[-1] if isinstance(shown, list) else shown) in message


def test_names_that_are_too_long_for_file_names_are_refused():
    name = "n" * 101
    for key, value in (("experiment", name), ("recipes", {name: {"data": "real"}}), ("fills", {name: {}})):
        said = complaint(GOOD | {key: value})
        assert said.startswith(f"config: {key}") and "nnn...: " in said
        assert said.endswith("should have at most 100 characters")
        load_config(GOOD | {key: name[1:] if key == "experiment" else {name[1:]: value[name]}})


def test_columns_that_are_written_out_with_their_defaults_are_accepted():
    columns = {"label_column": "label", "image_column": "image", "split_column": "split"}
    assert load_config(GOOD | {"dataset": GOOD["dataset"] | columns}) == load_config(GOOD)


@pytest.mark.parametrize("key", ["experiment", "dataset", "recipes", "dataset.path"])
def test_missing_key_is_named(key):
    config = copy.deepcopy(GOOD)
    block = config
    *blocks, last = key.split(".")
    for name in blocks:
        block = block[name]
    del block[last]
    assert f"{key}: is missing" in complaint(config)


def test_an_experiment_on_real_images_needs_no_model():
    config = load_config({key: value for key, value in GOOD.items() if key != "generation"})
    assert config.generation.model is None and config.generation_of_fills == {}
    cells = pd.DataFrame({"label_name": ["a", "b"], "group": "g", "count": [9, 0]})
    assert wanted_counts(cells, config.used_balance).tolist() == [0, 0]
    assert load_config(GOOD).used_balance == load_config(GOOD).balance
    assert load_config(config.model_dump()) == config


@pytest.mark.parametrize(
    ("changes", "needed_by"),
    [
        ({"recipes": {"filled": {"data": "balanced"}}}, "recipes.filled"),
        ({"recipes": "auto"}, "recipes.synthetic_first, "),
        ({"screening": {"min_contrast": 3.0}}, "screening"),
        ({"evaluation": {"domain_probe": True}}, "evaluation.domain_probe"),
        ({"adaptation": {"output": "adapter"}}, "adaptation"),
        ({"generation": {}, "fills": {"a": {"model": "m"}}}, "fills"),
    ],
)
def test_what_needs_synthetic_images_needs_a_model(changes, needed_by):
    load_config(GOOD | {"generation": {"model": "m"}} | {key: changes[key] for key in changes if key != "generation"})
    message = complaint(GOOD | {"generation": {}} | changes)
    assert f"generation.model: is missing, and synthetic images are needed by {needed_by}" in message
    assert "add the model, or leave these out" in message


def test_a_fill_without_a_model_is_named():
    message = complaint(GOOD | {"fills": {"a": {}, "b": {"model": None}}})
    assert "fills.b.model: is missing, and synthetic images are needed by fills" in message


def test_all_faults_are_in_one_line():
    message = complaint({**changed("dataset.image_size", 4), "colour": 1})
    assert "dataset.image_size" in message
    assert "colour" in message


def test_which_images_are_kept_needs_what_it_is_decided_by():
    def keep(how: str, **config) -> dict:
        return {**GOOD, "balance": {"keep": how, "oversample": 2}, **config}

    assert "has no effect with oversample: 1" in complaint(changed("balance.keep", "coverage"))
    assert "needs features of the images; add the block screening.classifier" in complaint(keep("coverage"))
    text_image = {"text_image": {"model": "clip"}, "features": "text_image"}
    assert load_config(keep("coverage", screening=text_image)).balance.keep == "coverage"
    assert "the block screening.classifier; add it" in complaint(keep("uncertain", screening=text_image))
    assert load_config(keep("uncertain", screening={"classifier": {}})).balance.keep == "uncertain"
    assert load_config(GOOD).balance.keep == "score"


@pytest.mark.parametrize("balance", [{"strategy": "fixed"}, {"target": 50}, {"strategy": "largest", "target": 50}])
def test_target_goes_with_strategy_fixed_only(balance):
    message = complaint({**GOOD, "balance": balance})
    assert "balance" in message
    assert "target" in message
    assert load_config({**GOOD, "balance": {"strategy": "fixed", "target": 50}}).balance.target == 50


@pytest.mark.parametrize("template", ["a photo", "a {label} on {place}", "a {Label}"])
def test_template_must_contain_label_and_known_placeholders_only(template):
    message = complaint(changed("prompts.templates", ["a photo of a {label}", template]))
    assert "prompts.templates" in message
    assert template in message


def test_recipe_inherits_training_and_overrides_it():
    config = load_config(
        {
            **GOOD,
            "training": {"steps": 70, "flip": False},
            "recipes": {"plain": {"data": "real"}, "longer": {"data": "balanced", "stage1": {"steps": 90}}},
        }
    )
    assert config.recipes["plain"].stage1.steps == 70
    assert config.recipes["longer"].stage1.steps == 90
    assert not config.recipes["longer"].stage1.flip


def test_shot_limits_must_not_cross():
    assert "few_below" in complaint({**GOOD, "imbalance": {"many_above": 10, "few_below": 20}})


@pytest.mark.parametrize("seeds", [[0, 1, 0], [], [-1], [2**64]])
def test_seeds_that_cannot_be_trained_with_are_refused(seeds):
    assert "seeds" in complaint({**GOOD, "seeds": seeds})


def test_empty_config_lists_what_is_missing():
    message = complaint({})
    assert all(f"{key}: is missing" in message for key in ("experiment", "dataset", "recipes"))


def test_a_shared_stage_1_is_that_of_the_other_recipe_and_survives_being_written_out():
    recipes = {"plain": {"data": "real", "stage1": {"steps": 7}}, "lws": {"stage1_of": "plain", "stage2": {}}}
    blocks = {
        "experiment": "x",
        "dataset": {"source": "folder", "path": "d", "image_size": 32},
        "generation": {"model": "m"},
        "training": {"width": 8},
    }
    config = load_config({**blocks, "recipes": recipes})
    assert config.recipes["lws"].stage1 == config.recipes["plain"].stage1
    assert (config.recipes["lws"].data, config.recipes["lws"].stage1.steps) == ("real", 7)
    assert Config.model_validate(config.model_dump()) == config
    for lws, expected in (
        ({"stage1_of": "none", "stage2": {}}, "'none' must be a recipe with its own stage 1; there are: plain"),
        (
            {"stage1_of": "plain", "data": "balanced", "stage2": {}},
            "takes data, fill and stage1 from plain; leave these keys out",
        ),
        ({"stage1_of": "plain"}, "without stage2"),
    ):
        assert expected in complaint({**blocks, "recipes": {**recipes, "lws": lws}})


def test_a_fault_that_recipes_inherit_is_reported_where_it_was_written():
    recipes = {"plain": {"data": "real", "stage1": {"steps": 0}}, "lws": {"stage1_of": "plain", "stage2": {}}}
    message = complaint({**GOOD, "recipes": recipes})
    assert message == "config: recipes.plain.stage1.steps: 0: should be at least 1"
    message = complaint({**GOOD, "training": {"deferred": 0.8}})
    assert message == "config: training: deferred has no effect with class_weights: none; leave it out"
    message = complaint({**GOOD, "training": {"devices": 4, "batch_size": 7}})
    assert "devices: 4 devices share each batch of 7 images" in message and message.endswith(
        "; set batch_size to at least 8"
    )
    stage2 = {"data": "real", "stage2": {"class_weights": "inverse"}}
    message = complaint({**GOOD, "recipes": {**recipes, "plain": stage2}})
    assert "class_weights: is for images_per_class: all; leave it out" in message
    message = complaint({**GOOD, "training": {"sync_batch_norm": True}})
    assert message == "config: training: sync_batch_norm has no effect with devices: 1; leave it out"


def test_of_a_list_with_a_wrong_value_the_value_is_reported():
    message = complaint(changed("generation.guidance", [1.5, "high"]))
    assert message == "config: generation.guidance.1: 'high': should be a number"


def test_recipes_auto_are_a_portfolio_that_inherits_training():
    config = load_config({**GOOD, "training": {"steps": 7}, "recipes": "auto"})
    without = [name for name, recipe in config.recipes.items() if recipe.data == "real"]
    assert without == ["real", "real_rebalanced", "real_mixed"]
    assert {recipe.stage1.steps for recipe in config.recipes.values()} == {7}
    assert config.recipes["filled_as_many_as_real"].fill.per_real == 1
    assert Config.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluation": {"choose_by": "balanced"}}, "choose_by needs dataset.validation_split"),
        ({"evaluation": {"halving": False}}, "halving has no effect with choose_by: null"),
        (
            {
                "evaluation": {"choose_by": "worst_cell"},
                "dataset": {**GOOD["dataset"], "validation_split": "validation"},
            },
            "worst_cell needs dataset.group_columns",
        ),
        (
            {
                "evaluation": {"choose_by": "balanced"},
                "dataset": {**GOOD["dataset"], "validation_split": "val"},
                "recipes": {"a": {"data": "real", "stage2": {"split": "val"}}},
            },
            "needs a recipe that is not trained on the validation images",
        ),
        ({"recipes": {"a": {"data": "real", "fill": {"share": 0.5}}}}, "fill needs data: balanced"),
        ({"recipes": {"a": {"data": "balanced", "fill": {"share": 0}}}}, "share: 0: should be above 0"),
    ],
)
def test_a_choice_or_a_fill_that_cannot_work_is_an_error(change, message):
    assert message in complaint({**GOOD, **change})
