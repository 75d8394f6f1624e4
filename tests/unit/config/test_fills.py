"""Several fills in a config: what they take over from `generation`, and the one line if a name or a key is wrong."""

import pytest

from synaug.config import load_config
from synaug.config.portfolio import PORTFOLIO
from synaug.runtime.errors import UserError

BASE = {
    "experiment": "e",
    "dataset": {"source": "folder", "path": "images", "image_size": 28},
    "generation": {"model": "m", "revision": "abc", "steps": 8, "guidance": 2.0, "adapters": []},
    "recipes": {"real": {"data": "real"}},
}
TWO = {"plain": {}, "strong": {"guidance": 4.0}}


def complaint(**blocks) -> str:
    with pytest.raises(UserError) as error:
        load_config({**BASE, **blocks})
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_fill_takes_over_the_keys_of_generation():
    config = load_config({**BASE, "fills": TWO})
    assert config.fills["plain"] == config.generation
    assert config.fills["strong"] == config.generation.model_copy(update={"guidance": 4.0})
    assert list(config.generation_of_fills) == ["plain", "strong"]


def test_without_fills_there_is_one_without_a_name():
    config = load_config(BASE)
    assert config.generation_of_fills == {"": config.generation}


def test_another_model_has_its_own_revision_and_another_pipeline_its_own_strength():
    generation = BASE["generation"] | {"pipeline": "image-to-image", "strength": 0.4, "variant": "fp16"}
    fills = {"other": {"model": "n"}, "text": {"pipeline": "text-to-image"}, "same": {"model": "m", "steps": 5}}
    config = load_config({**BASE, "generation": generation, "fills": fills})
    assert (config.fills["other"].revision, config.fills["other"].strength) == (None, 0.4)
    assert (config.fills["text"].revision, config.fills["text"].strength) == ("abc", None)
    assert (config.fills["same"].revision, config.fills["same"].variant) == ("abc", "fp16")
    assert config.fills["other"].variant is None


def test_a_config_that_was_written_out_in_full_is_read_back_unchanged():
    recipes = {"filled": {"data": "balanced", "fill": {"name": "strong"}}}
    config = load_config({**BASE, "fills": TWO, "recipes": recipes})
    assert load_config(config.model_dump()) == config


@pytest.mark.parametrize(
    ("fills", "expected"),
    [
        ({"a": {"colour": 3}}, "fills.a.colour: unknown key; allowed here: adapters, attention, batch_size"),
        ({"a": {"guidance": 200}}, "fills.a.guidance: 200: should be 0 to 100"),
        ({"a": {"batch_size": 4}}, "fills.a.batch_size: all fills share it; set it under generation"),
        ({"a": {"attention": "flash"}}, "fills.a.attention: all fills share it; set it under generation"),
        ({"a": {}, "b": {"steps": 8}}, "fills.b: makes the same images as fills.a (steps 8, guidance 2)"),
        ({"a": {}, "b": {"guidance": [1, 2.0]}}, "fills.b: makes the same images as fills.a (steps 8, guidance 2)"),
        ({"a": None}, "fills.a: None: should be a block of keys"),
    ],
)
def test_a_wrong_fill_is_named(fills, expected):
    assert expected in complaint(fills=fills)


def test_a_fault_of_generation_is_not_repeated_for_every_fill():
    message = complaint(generation={"model": "m", "steps": 0}, fills=TWO)
    assert message.count("generation.steps") == 1 and "fills" not in message


def test_a_recipe_names_one_of_several_fills():
    without = {"filled": {"data": "balanced"}}
    assert "recipes.filled.fill: needs `name`, one of plain, strong" in complaint(fills=TWO, recipes=without)
    unknown = {"filled": {"data": "balanced", "fill": {"name": "weak"}}}
    message = complaint(fills=TWO, recipes=unknown)
    assert "recipes.filled.fill.name: 'weak': no such fill; give one of plain, strong" in message
    assert "'weak': no such fill; add it to fills, or leave it out" in complaint(recipes=unknown)
    assert load_config({**BASE, "fills": {"only": {}}, "recipes": without}).recipes["filled"].fill is None


def test_recipes_auto_have_every_filled_recipe_once_for_each_of_several_fills():
    names = list(load_config({**BASE, "fills": TWO, "recipes": "auto"}).recipes)
    assert names[:4] == ["real", "real_rebalanced", "real_mixed", "synthetic_first_plain"]
    assert len(names) == 3 + 4 * 2
    config = load_config({**BASE, "fills": TWO, "recipes": "auto"})
    assert config.recipes["filled_quarter_strong"].fill.model_dump() == {
        "name": "strong",
        "share": 0.25,
        "per_real": None,
    }
    assert list(load_config({**BASE, "fills": {"only": {}}, "recipes": "auto"}).recipes) == list(PORTFOLIO)


def test_probe_images_are_for_one_fill():
    message = complaint(fills=TWO, evaluation={"domain_probe": True})
    assert "evaluation.domain_probe: is for experiments with one fill" in message


def test_the_gate_needs_validation_images_and_the_pilot_needs_the_gate():
    assert "screening.classifier.gate needs dataset.validation_split" in complaint(
        screening={"classifier": {"gate": True}}
    )
    assert "pilot has no effect with gate: false" in complaint(screening={"classifier": {"pilot": 16}})
    dataset = BASE["dataset"] | {"validation_split": "val"}
    gated = load_config({**BASE, "dataset": dataset, "screening": {"classifier": {"gate": True, "pilot": 16}}})
    assert (
        "gate" not in gated.screening.scoring()["classifier"] and "pilot" not in gated.screening.scoring()["classifier"]
    )
