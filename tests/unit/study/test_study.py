"""Studies: the configs of their variants, and the tables and the figure of all variants."""

import pandas as pd
import pytest
import yaml

from synaug.config import load_config
from synaug.manifests import read_manifest, write_manifest
from synaug.report.study_page import markdown, study_figure, study_page
from synaug.runtime.errors import UserError
from synaug.study import concatenate_variants, variant_configs

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


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"a": {"recipes": ["reel"]}}, r"study\.a\.recipes: there is no recipe 'reel' \(known: real, filled\)"),
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


@pytest.fixture
def tables() -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    rows = [
        (recipe, stage, metric, subset, weighting, value, value - 0.01, value + 0.01)
        for recipe, stage, value in (("real", "train", 0.5), ("synaug", "train", 0.7), ("synaug", "finetune", 0.75))
        for metric, subset, weighting in [("accuracy", subset, "classes") for subset in ("balanced", "many", "few")]
    ]
    names = ["recipe", "stage", "metric", "subset", "weighting", "mean", "low", "high"]
    summary = pd.DataFrame(rows, columns=names).assign(
        seeds=3, real_images=10, synthetic_images=20, train_seconds=4.0, generation_seconds=None
    )
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
