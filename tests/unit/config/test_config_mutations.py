"""Configs with a wrong value anywhere: the result is a config, or an error of one line that is not too long."""

import copy
import random
from itertools import chain

import pytest
import yaml
from test_config import GOOD, changed, complaint

from synaug.config import check_config_file, load_config
from synaug.runtime.errors import UserError

FULL = {
    **GOOD,
    "dataset": {
        "source": "folder", "path": "images", "image_size": 28, "make_splits": {"test": 0.2}, "imbalance_factor": 10.0,
    },
    "prompts": {"templates": ["a {label}, {modifier}"], "modifiers": ["old"], "names": {"a": "b"}},
    "balance": {"amount": 1.0, "oversample": 1.5, "max_synthetic_per_real": 3.0},
    "generator": {"images": "i.parquet", "output": "o"},
    "adaptation": {"output": "a", "learning_rate": 1e-4, "snr_gamma": 5.0},
    "generation": {
        "model": "m", "guidance": 2.0, "steps": 8, "adapters": [{"kind": "lora", "model": "m", "scale": 1.0}],
        "scheduler": {"name": "s", "flow_shift": 3.0},
    },
    "screening": {
        "min_contrast": 2.0, "classifier": {"min_confidence": 0.1}, "text_image": {"model": "m", "min_score": 0.2},
        "safety": {"model": "m", "unsafe_labels": ["nsfw"], "max_score": 0.5}, "duplicates": {"min_similarity": 0.9},
    },
    "training": {
        "learning_rate": 0.1, "weight_decay": 0.0, "crop_area": 0.5, "synthetic_weight": 1.0, "ema": 0.9,
        "loss": {"name": "focal", "gamma": 1.0}, "mixup": {"alpha": 0.2}, "randaugment": {}, "deferred": 0.5,
        "class_weights": "inverse",
    },
    "recipes": {
        "plain": {"data": "balanced", "fill": {"share": 0.5, "per_real": 2.0}},
        "more": {"stage1_of": "plain", "stage2": {"learning_rate": 0.1, "max_norm": 1.0}},
    },
    "evaluation": {"baseline": "plain"},
    "study": {"variant": {"seed": 1}},
}  # fmt: skip
VALUES = [
    None, True, 0, -1, 2**63, 2**64, 1.5, float("inf"), float("nan"), "", " ", "x: y: z", "[1, 2", "{a: 1",
    "!!python/x", "&a *b", "2024-13-45", "1e-3", "[" * 3000, "x" * 5000, "\ud800",
    "no", [], {}, [None], [["a"]], {1: 2}, {"": ""},
    {"a": {"b": "c"}}, ["a", "a"], b"x", "{", "%", "\t", "@", "`", "- - -", {True: "Norway"}, list(range(3000)),
]  # fmt: skip


def paths(value, path=()):
    """The location of every key in `value`."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from paths(item, (*path, key))


def mutant(path, value):
    config = copy.deepcopy(FULL)
    block = config
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    return config


def test_the_config_that_is_mutated_is_valid():
    assert load_config(FULL).screening.safety.unsafe_labels == ["nsfw"]


@pytest.mark.parametrize("number", range(len(VALUES)))
def test_any_value_of_any_key_is_accepted_or_one_line(number):
    for path in paths(FULL):
        if "study" in path[:1] and len(path) > 1:
            continue  # checked when the variant is
        try:
            load_config(mutant(path, VALUES[number]))
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 5000, path


def test_unknown_keys_anywhere_are_one_line():
    choose = random.Random(0)
    places = [(), *[path for path in paths(FULL) if isinstance(mutant(path, 0), dict)]]
    for _ in range(200):
        path = choose.choice(places)
        block = copy.deepcopy(FULL)
        config = block
        for key in path:
            block = block[key]
        if isinstance(block, dict):
            block.update(dict.fromkeys(chain([3, None, "x" * 9000], map(str, range(choose.choice([1, 500])))), "y"))
            try:
                load_config(config)
            except UserError as error:
                assert "\n" not in str(error) and len(str(error)) < 9000, path


def numbers(value, path=()):
    for path in paths(FULL):
        value = FULL
        for key in path:
            value = value[key]
        if isinstance(value, float):
            yield path


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_an_infinite_number_is_refused_everywhere(value):
    for path in numbers(FULL):
        with pytest.raises(UserError) as error:
            load_config(mutant(path, value))
        assert ".".join(map(str, path[-2:])).split(".")[-1] in str(error.value)
    assert "balance.amount: inf: should be a finite number" in complaint(changed("balance.amount", float("inf")))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("generation.size", 2**63, "size: 9223372036854775808 should be at most 2147483647"),
        ("training.steps", 2**31, "steps: 2147483648 should be at most 2147483647"),
        ("balance", {"strategy": "fixed", "target": 2**40}, "target: 1099511627776 should be at most"),
        ("dataset.train_split", "", "train_split: '' must not be empty"),
        ("dataset.path", " ", "path: ' ' must not be empty"),
        ("generation.revision", "", "revision: '' must not be empty"),
        ("dataset", {**GOOD["dataset"], "source": "table", "group_columns": ["sex", "sex"]}, "group_columns: "),
        ("dataset", {**GOOD["dataset"], "source": "table", "group_columns": [""]}, "group_columns: '' must not be"),
        ("prompts.names", {False: "Norway"}, "YAML reads one of it as false, because yes, no, on"),
        ("dataset.path", "~/x", "dataset: path: '~/x': ~ is not replaced in a config; write the whole path"),
        ("dataset", {**GOOD["dataset"], "source": "image_list", "lists": {"train": "~/x"}}, "lists: '~/x': ~ is not"),
        ("generation.model", "~/x", "generation: model: '~/x': ~ is not replaced"),
        ("prompts.names", "~/x", "prompts: names: '~/x': ~ is not replaced"),
        ("training.pretrained", "~/x", "pretrained: '~/x': ~ is not replaced"),
        ("dataset.color", True, "dataset.color: True: "),
        ("dataset.path", 7, "dataset.path: 7: should be text; put it into quotes"),
        ("dataset.train_split", False, "should be text, and yes, no, on, off, true and false are none without quotes"),
        ("training.steps", "x: y: z", "training.steps: 'x: y: z': should be a whole number"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_named(key, value, expected):
    assert expected in complaint(changed(key, value))


def test_seeds_may_be_larger_than_other_numbers():
    assert load_config(changed("seed", 2**62)).seed == 2**62
    assert load_config(changed("seeds", [2**62])).seeds == [2**62]


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+1.0e-3", ".1e-2", "1.e-3"])
def test_a_number_in_scientific_notation_is_a_number(text):
    config = yaml.safe_load(yaml.safe_dump(GOOD)) | yaml.safe_load(f"training: {{learning_rate: {text}}}")
    assert load_config(config).training.learning_rate == 0.001
    shares = yaml.safe_load("{test: 2e-1}")
    assert load_config(changed("dataset.make_splits", shares)).dataset.make_splits == {"test": 0.2}


def test_a_long_value_or_key_is_cut():
    assert "xxx...: should be a whole number" in complaint(changed("training.steps", "x" * 600_000))
    assert len(complaint(changed("x" * 600_000, 1))) < 1000
    assert len(complaint({**GOOD, **{f"key{number}": 1 for number in range(50_000)}})) < 5000


@pytest.mark.parametrize("kind", ["lists", "blocks", "endless"])
def test_aliases_that_stand_for_billions_of_values_are_one_line(kind):
    value = "lol"
    for _ in range(40):
        value = [value, value] if kind == "lists" else {"a": value, "b": value}
    if kind == "endless":
        value = []
        value.append(value)
    for key in ("prompts.names", "training.steps", "unknown"):
        assert "remove aliases" in complaint(changed(key, value))


def test_a_fault_under_recipes_auto_is_one_line():
    assert "training" in complaint({**GOOD, "recipes": "auto", "training": {"steps": -1, "loss": {"name": "ldam"}}})
    complaint({**GOOD, "recipes": "auto", "training": {"cutmix": 1, "group_dro": 2.0}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: 1\nseed: 2\n", "line 2: the key 'seed' is already in line 1; leave one of them"),
        ("training: {steps: 1, steps: 2}\n", "line 1: the key 'steps' is already in line 1"),
        ('{"recipes": {"a": {}, "a": {}}}', "line 1: the key 'a' is already in line 1"),
        (
            "recipes:\n  plain: {data: real}\n\n  plain: {data: balanced}\n",
            "line 4: the key 'plain' is already in line 2",
        ),
        ("a:\n- b: 1\n  b: 1\n", "line 3: the key 'b'"),
    ],
)
def test_a_key_that_a_file_has_twice_is_refused(tmp_path, text, expected):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        check_config_file(str(file))
    assert str(error.value).startswith(f"{file}: {expected}")


@pytest.mark.parametrize("text", ["a: &x {k: 1}\nb: *x\nc: {k: 1, 1: 2, '1': 3}\n", "a: [\n", "", "- &a [*a]\n"])
def test_a_file_without_such_a_key_is_accepted(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    check_config_file(str(tmp_path / "config.yaml"))


def test_the_configs_of_the_repository_have_no_key_twice(repository):
    for file in [repository / "config.yaml", *(repository / "experiments").glob("*.yaml")]:
        check_config_file(str(file))
