"""Studies: the configs of their variants, and the tables and the figure of all variants."""

import pandas as pd
import pytest
import yaml

from synaug.config import load_config
from synaug.manifests import read_manifest, write_manifest
from synaug.report.study_page import markdown, study_figure, study_page
from synaug.runtime.errors import UserError
from synaug.study import check_trainings, concatenate_variants, group_replicates, variant_configs, varied_by_replicates

CONFIG = """
experiment: probe
dataset: {source: folder, path: data, image_size: 16}
generation: {model: model}
recipes:
  real: {data: real}
  filled: {data: balanced}
evaluation: {baseline: real}
study:
  base: null
  short: {training: {steps: 5}, recipes: [filled]}
"""


def test_a_variant_replaces_some_keys_of_the_config():
    config = yaml.safe_load(CONFIG)
    base, short = (load_config(variant) for variant in variant_configs(config).values())
    assert [base.experiment, short.experiment] == ["probe-base", "probe-short"]
    assert base.recipes["filled"].stage1.steps == 1000
    assert list(short.recipes) == ["filled"] and short.recipes["filled"].stage1.steps == 5
    assert short.evaluation.baseline is None  # the variant does not run its recipe
    assert config == yaml.safe_load(CONFIG)
    several = config | {"evaluation": {"baseline": ["real", "filled"]}}
    assert variant_configs(several)["short"]["evaluation"]["baseline"] == ["filled"]


def test_a_variant_may_name_some_of_the_automatic_recipes():
    config = yaml.safe_load(CONFIG) | {"recipes": "auto", "evaluation": {}, "study": {"a": {"recipes": ["real"]}}}
    assert list(load_config(variant_configs(config)["a"]).recipes) == ["real"]
    config["study"] = {"a": {"fills": {"x": {}, "y": {"guidance": 4.0}}}}  # their recipes are those of these fills
    fills = {recipe.fill.name for recipe in load_config(variant_configs(config)["a"]).recipes.values() if recipe.fill}
    assert fills == {"x", "y"}


def test_two_variants_that_would_train_one_generator_are_named():
    generator = {"images": "data/train.parquet", "output": "own", "size": 16, "color": "grey"}
    study = {name: {"generation": {"model": "own", "guidance": g}} for name, g in (("a", 1.0), ("b", 3.0))}
    config = yaml.safe_load(CONFIG) | {"generator": generator, "study": study}
    configs = {name: load_config(variant) for name, variant in variant_configs(config).items()}
    with pytest.raises(UserError, match=r"study: a and b would both train own \(generator\.output\); train it first"):
        check_trainings(configs)
    study["b"]["generation"]["model"] = "model"  # nothing is trained for it
    check_trainings({name: load_config(variant) for name, variant in variant_configs(config).items()})


@pytest.mark.parametrize("spelling", ["./own", "own/", "link/own"])
def test_two_variants_that_would_train_one_generator_or_adapter_are_named_with_any_spelling(
    spelling, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(".")
    generator = {"images": "data/train.parquet", "size": 16, "color": "grey"}
    of_generator = [
        {"generator": generator | {"output": out}, "generation": {"model": out}} for out in ("own", spelling)
    ]
    with pytest.raises(UserError, match=r"study: a and b would both train \S+ \(generator\.output\)"):
        check_trainings(study_of(a=of_generator[0], b=of_generator[1]))
    of_adapter = [
        {"adaptation": {"output": out}, "generation": {"adapters": [{"kind": "lora", "model": out}]}}
        for out in ("own", spelling)
    ]
    with pytest.raises(UserError, match=r"study: a and b would both train \S+ \(adaptation\.output\)"):
        check_trainings(study_of(a=of_adapter[0], b=of_adapter[1]))


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"a": {"recipes": ["reel"]}}, r"study\.a\.recipes: there is no recipe 'reel' \(known: real, filled\)"),
        ({"a": {"recipes": [{"real": None}]}}, r"study\.a\.recipes: there is no recipe {'real': None}"),
        ({"a": {"experiment": "b"}}, r"study\.a\.experiment: .* probe-a; leave it out"),
        ({"a": {"study": {"b": None}}}, r"study\.a\.study: .*; leave it out"),
        ({"a": 5}, r"study\.a: 5: should be a block"),
    ],
)
def test_the_error_names_a_wrong_variant(study, message):
    with pytest.raises(UserError, match=message):
        variant_configs(yaml.safe_load(CONFIG) | {"study": study})


def test_an_error_in_a_variant_names_the_variant():
    config = yaml.safe_load(CONFIG) | {"study": {"a": {"training": {"stepz": 5}}}}
    with pytest.raises(UserError, match=r"^study\.a: training\.stepz: unknown key"):
        load_config(variant_configs(config)["a"], where="study.a")


def test_a_variant_without_a_data_set_says_so():
    config = yaml.safe_load(CONFIG)
    del config["dataset"]
    with pytest.raises(UserError, match=r"^study\.short: dataset: is missing"):
        load_config(variant_configs(config)["short"], where="study.short")


def test_a_variant_with_a_name_that_is_too_long_for_a_folder_is_named():
    with pytest.raises(UserError, match=r"^v+: experiment: .* should have at most 100 characters"):
        study_of(**{"v" * 95: None})


def study_of(**variants) -> dict:
    config = yaml.safe_load(CONFIG) | {"study": variants}
    return {name: load_config(changed, where=name) for name, changed in variant_configs(config).items()}


def test_variants_that_differ_in_their_seeds_are_one_result():
    configs = study_of(
        a_seed0={"seed": 0, "seeds": [0]}, base=None, a_seed1={"seed": 1, "seeds": [1]}, b_seed0={"recipes": ["real"]}
    )
    assert group_replicates(configs) == {"a": ["a_seed0", "a_seed1"], "base": ["base"], "b_seed0": ["b_seed0"]}
    assert varied_by_replicates(configs["a_seed0"]) == "training seed, synthetic images"


def test_replicates_may_each_train_a_generator():
    def replicate(seed: int, steps: int = 5) -> dict:
        folder = f"results/probe-a_seed{seed}"
        images = {"images": f"{folder}/real.parquet", "output": f"{folder}/generator", "size": 16}
        generator = images | {"autoencoder_steps": steps}
        return {"seed": seed, "seeds": [seed], "generator": generator, "generation": {"model": f"{folder}/generator"}}

    configs = study_of(a_seed0=replicate(0), a_seed1=replicate(1))
    assert list(group_replicates(configs)) == ["a"]
    spelt = replicate(1) | {"generation": {"model": "./results/probe-a_seed1/generator/"}}
    assert list(group_replicates(study_of(a_seed0=replicate(0), a_seed1=spelt))) == ["a"]
    assert varied_by_replicates(configs["a_seed1"]) == "training seed, synthetic images, generator"
    with pytest.raises(UserError, match="differ in seed and seeds only"):
        group_replicates(study_of(a_seed0=replicate(0), a_seed1=replicate(1, steps=6)))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"seed": 1, "seeds": [1], "training": {"steps": 5}}, "differ in seed and seeds only"),
        ({"seed": 1, "seeds": [1, 2]}, r"a_seed1 has the seeds \[1, 2\]; give it one"),
        ({"seed": 0, "seeds": [1]}, "seed is 0, 0; each of them needs another seed"),
        ({"seed": 1, "seeds": [0]}, "seeds is"),
    ],
)
def test_replicates_are_independent(second, message):
    with pytest.raises(UserError, match=message):
        group_replicates(study_of(a_seed0={"seed": 0, "seeds": [0]}, a_seed1=second))


def test_a_variant_may_not_be_called_like_the_result_of_replicates():
    seeds = {f"a_seed{seed}": {"seed": seed, "seeds": [seed]} for seed in (0, 1)}
    with pytest.raises(UserError, match=r"study\.a: is the name of the result"):
        group_replicates(study_of(a=None, **seeds))


def test_text_and_page_say_what_the_intervals_are_over(tables):
    summary, deltas, variants = tables
    text = markdown(summary, deltas, variants, "probe")
    assert text.count("over training seeds; the synthetic images are the same for all seeds.") == 2
    of_a = (summary["variant"] == "a") & (summary["synthetic_images"] > 0)
    summary.loc[of_a, "varied"] = "training seed, synthetic images"
    page = study_page(summary, deltas, variants, "probe", replicates={"a": ["a_seed0", "a_seed1"], "b": ["b"]})
    assert "every seed has its own images. Those of the other networks are over training seeds." in page
    assert all(f'href="../probe-{name}/report.html"' in page for name in ("a_seed0", "a_seed1", "b"))


@pytest.fixture
def tables() -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    rows = [
        (recipe, stage, metric, subset, weighting, value, value - 0.01, value + 0.01)
        for recipe, stage, value in (("real", "train", 0.5), ("synaug", "train", 0.7), ("synaug", "finetune", 0.75))
        for metric, subset, weighting in [("accuracy", subset, "classes") for subset in ("balanced", "many", "few")]
    ]
    names = ["recipe", "stage", "metric", "subset", "weighting", "mean", "low", "high"]
    summary = pd.DataFrame(rows, columns=names).assign(
        seeds=3, varied="training seed", real_images=10, synthetic_images=20, train_seconds=4.0, generation_seconds=None
    )
    summary.loc[summary["recipe"] == "real", "synthetic_images"] = 0
    deltas = pd.DataFrame(
        [("synaug", "finetune", "real", "train", "accuracy", "few", "classes", 0.25, 0.2, 0.3, 0.1, 0.4, 3)],
        columns=[*names[:2], "baseline_recipe", "baseline_stage", *names[2:], "low_images", "high_images", "seeds"],
    )
    variants = {"a": ["real", "synaug"], "b": ["synaug"]}
    return (
        concatenate_variants(variants, [summary, summary.iloc[3:]]),
        concatenate_variants(variants, [deltas, deltas.iloc[:0]]),
        variants,
    )


def test_the_text_lists_every_network_with_intervals_and_costs(tables):
    text = markdown(*tables, "probe")
    assert "## a" in text and "## b" in text
    line = next(line for line in text.splitlines() if line.startswith("| synaug + fine-tune |"))
    assert line == f"| synaug + fine-tune |{' 75.0 [74.0, 76.0] |' * 3} 10 + 20 | 4 + ? | 3 |"
    assert "| synaug + fine-tune minus real | +25.0 [20.0, 30.0] |" in text
    assert text.count("| real |") == 1


def test_the_page_links_the_reports_and_has_the_tables_of_all_variants(tables):
    page = study_page(*tables, "probe")
    assert 'href="../probe-a/report.html"' in page and 'href="../probe-b/report.html"' in page
    assert "2 variants" in page and page.count("<table") == 3 and page.count("<svg") == 1
    assert "+25.0 [20.0, 30.0]" in page


def test_the_figure_has_a_point_per_network(tables):
    summary, _, variants = tables
    panels = study_figure(summary, variants).axes
    assert [len(panel.containers) for panel in panels] == [5, 5]
    assert [label.get_text() for label in panels[0].get_yticklabels()].count("synaug + fine-tune") == 2


def test_a_network_without_few_shot_classes_has_an_empty_line_in_the_figure(tables):
    """As at a small imbalance factor. The points of all others stay beside their names."""
    summary, _, variants = tables
    few = (summary["variant"] == "a") & (summary["subset"] == "few")
    panels = study_figure(summary[~few], variants).axes
    lines = [label.get_position()[1] for label in panels[0].get_yticklabels()]
    points = [sorted(float(container[0].get_ydata()[0]) for container in panel.containers) for panel in panels]
    assert points[0] == lines and len(points[1]) < len(lines) and set(points[1]) < set(lines)


def test_with_groups_the_text_lists_cells_probes_and_chosen_settings(tables):
    summary, deltas, variants = tables
    rows = [("accuracy", "worst_cell", "cells"), ("pair_probe", "all", "cells"), ("swap_drop", "real", "classes")]
    cells = [summary[summary["subset"] == "few"].assign(metric=m, subset=s, weighting=w) for m, s, w in rows]
    summary = pd.concat([summary[~summary["subset"].isin(["few", "many"])], *cells])
    chosen = pd.DataFrame(
        [
            ("a", "synaug", criterion, "class", "synaug", "finetune", 0.6, 3, 3)
            for criterion in ("average", "worst_cell")
        ],
        columns=["variant", "method", "criterion", "needs", "recipe", "stage", "validation", "candidates", "seeds"],
    )
    text = markdown(summary, deltas, variants, "probe", chosen)
    assert "| all classes | worst cell | pair probe | swap, real |" in text
    line = "| average (class) | synaug + fine-tune | 3 | 60.0 | 75.0 [74.0, 76.0] | 75.0 [74.0, 76.0] |"
    assert text.count(line) == 1 and "| worst cell (class) |" in text
    # The chosen setting of variant a, and both networks of variant b, which has no selection.
    assert [len(panel.containers) for panel in study_figure(summary, variants, chosen).axes] == [3, 3]


def test_a_single_shot_group_is_not_listed_in_addition_to_all_classes(tables):
    summary, deltas, variants = tables
    text = markdown(summary[summary["subset"] != "few"], deltas.iloc[:0], variants, "probe")
    assert "| all classes | real + synthetic images |" in text


def test_the_tables_of_a_study_are_manifests(tables, tmp_path):
    for kind, table in zip(("study", "study_differences"), tables[:2], strict=True):
        write_manifest(kind, table.astype({"low": "Float64"}), tmp_path / "table.parquet")
        assert len(read_manifest(kind, tmp_path / "table.parquet")) == len(table)
