"""Parts of the report on hand-made tables: the compared networks, counts, costs and advice."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from small_experiment import SETTINGS
from synaug.config import Config
from synaug.evaluation.bootstrap import resample
from synaug.evaluation.classification import score
from synaug.evaluation.intervals import mean_interval
from synaug.manifests import write_manifest
from synaug.report import advice, run_info
from synaug.report.advice import DOMAIN_PROBE
from synaug.report.comparison import compared_networks
from synaug.report.confusion import (
    PredictionCounts,
    binned_confusion,
    confused_pairs,
    count_predictions,
    reliability_table,
)
from synaug.report.gallery import MOST_IMAGES, images_per_class, shown_classes, thumbnails
from synaug.report.page import duration
from synaug.report.plots import fill_figure, inline_svg, svg
from synaug.report.result_plots import accuracy_figure, confusion_figure
from synaug.report.sections import shown_fill
from synaug.report.tables import choice_table, chosen_headline, interval, quality_table


@pytest.mark.parametrize(
    "recipes, baseline, expected",
    [
        ({"real": "real", "synaug": "balanced", "other": "balanced"}, None, ["real", "synaug"]),
        ({"synaug": "balanced", "real": "real"}, "real", ["real", "synaug"]),
        ({"a": "real", "synaug-1": "balanced", "synaug-2": "balanced", "b": "balanced"}, None, ["a", "synaug-1"]),
        ({"a": "real", "b": "balanced", "c": "balanced", "d": "real"}, None, ["a", "c"]),
        ({"a": "real", "b": "real"}, None, ["a", "b"]),
        ({"synaug": "balanced"}, None, ["synaug"]),
    ],
)
def test_the_report_compares_the_baseline_and_the_main_recipe(recipes, baseline, expected):
    blocks = {name: {"data": data} for name, data in recipes.items()}
    config = Config.model_validate(SETTINGS | {"recipes": blocks, "evaluation": {"baseline": baseline}})
    assert compared_networks(config) == [(name, "train") for name in expected]


def choice(*rows: tuple[str, str, bool, bool]) -> pd.DataFrame:
    """The manifest `chosen`. rows: recipe, stage, whether it uses synthetic images, whether it is chosen."""
    table = pd.DataFrame(rows, columns=["recipe", "stage", "synthetic", "chosen"])
    return table.assign(reason="It is.", metric="balanced", images=9, seeds=2, gain_standard_error=0.02).assign(
        validation=np.linspace(0.9, 0.5, len(rows)), standard_error=0.01, gain=0.0
    )


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (("other", "train"), [("real", "finetune"), ("other", "train")]),
        (("real", "train"), [("real", "finetune"), ("real", "train")]),
        (("real", "finetune"), [("real", "finetune"), ("synaug", "train")]),  # the baseline: as without a choice
    ],
)
def test_the_report_compares_the_baseline_and_the_chosen_network(chosen, expected):
    blocks = {"real": {"data": "real", "stage2": {}}, "synaug": {"data": "balanced"}, "other": {"data": "real"}}
    config = Config.model_validate(SETTINGS | {"recipes": blocks})
    table = choice((*chosen, False, True), ("synaug", "train", True, False))
    assert compared_networks(config, table) == expected


def test_a_recipe_that_was_dropped_is_not_the_main_recipe_of_the_report():
    blocks = {"real": {"data": "real"}, "synaug": {"data": "balanced"}, "filled": {"data": "balanced"}}
    config = Config.model_validate(SETTINGS | {"recipes": blocks})
    table = choice(("real", "train", False, True), ("filled", "train", True, False), ("synaug", "train", True, False))
    assert compared_networks(config, table)[1] == ("synaug", "train")
    assert compared_networks(config, table.assign(seeds=[2, 2, 1]))[1] == ("filled", "train")
    assert compared_networks(config, table.assign(seeds=[2, 1, 1]))[1] == ("synaug", "train")


@pytest.mark.parametrize(("recipe", "fill"), [("synaug_b", "b"), ("synaug_a", "a"), ("real", "a")])
def test_the_page_shows_the_fill_of_the_chosen_recipe(recipe, fill):
    blocks = {"real": {"data": "real"}} | {
        f"synaug_{name}": {"data": "balanced", "fill": {"name": name}} for name in ("a", "b")
    }
    fills = {"a": {}, "b": {"guidance": 4.0}}
    config = Config.model_validate(SETTINGS | {"recipes": blocks, "fills": fills})
    table = choice((recipe, "train", recipe != "real", True))
    assert shown_fill(config, compared_networks(config, table)[-1][0]) == fill


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"kept": 0, "agreement": 0.2}, "None passed the screening"),
        ({"wanted": 0, "kept": 0}, "The gate lets none of them through"),
        ({"kept": 9}, "add the block screening.classifier"),
        (
            {"kept": 9, "agreement": 0.56},
            "reads 56 % of the generated images as their class. That is low: a better",
        ),
        ({"kept": 9, "agreement": 0.9, "coverage": 0.3}, "cover only 30 % of the real images"),
        ({"kept": 9, "agreement": 0.9, "coverage": 0.8}, "a gain below 2.0 points cannot be told from noise"),
    ],
)
def test_a_page_whose_fill_was_not_chosen_says_what_would_make_it_useful(values, expected):
    quality = pd.DataFrame({"fill": "", "label_name": "", "metric": list(values), "value": list(values.values())})
    chosen = choice(("real", "train", False, True), ("synaug", "train", True, False))
    assert expected in advice.useful_fill(chosen, quality, has_gate=True)
    if values.get("kept"):
        assert "No candidate uses them" in advice.useful_fill(chosen[:1], quality, has_gate=True)
    if values.get("agreement") == 0.56:  # another fill, of which the gate leaves out every class
        empty = {"fill": ["other", "other", ""], "label_name": "", "metric": ["wanted", "kept", "wanted"]}
        empty = pd.DataFrame(empty | {"value": [0.0, 0.0, 9.0]})
        text = advice.useful_fill(chosen, pd.concat([empty, quality]), has_gate=True)
        assert text.startswith("The screening classifier reads 56 %")
    if not values.get("wanted", 1):
        assert "no class has fewer images than" in advice.useful_fill(chosen, quality, has_gate=False)


PREDICTIONS = pd.DataFrame({"label": [0, 1], "predicted": [0, 0]})


def test_the_headline_of_a_choice_has_the_chosen_network_the_best_without_and_the_baseline():
    def rows(series: str, subset: str, mean: float) -> dict:
        figure = {"metric": "accuracy", "subset": subset, "weighting": "classes", "mean": mean}
        return {"series": series, "recipe": series, "stage": "train", "low": mean - 0.01, "high": mean + 0.01, **figure}

    means = {"real": 0.6, "rebalanced": 0.7, "filled": 0.8}
    summary = pd.DataFrame([rows(name, subset, mean) for name, mean in means.items() for subset in ("balanced", "few")])

    def headline(chosen: str, baseline: str) -> dict[str, str]:
        table = choice(*((name, "train", name == "filled", name == chosen) for name in reversed(means)))
        figures = chosen_headline(summary, choice_table(table, summary, [PREDICTIONS]), baseline)
        assert [row["few"] for row in figures] == [row["balanced"] for row in figures]
        return {row["name"]: f"{row['roles']}: {row['balanced']}" for row in figures}

    without = "the best recipe without synthetic images on the validation images"
    assert headline("filled", "real") == {
        "filled": "chosen: 80.0 [79.0, 81.0]",
        "rebalanced": f"{without}: 70.0 [69.0, 71.0]",
        "real": "the baseline: 60.0 [59.0, 61.0]",
    }
    assert list(headline("rebalanced", "real")) == ["rebalanced", "real"]
    assert headline("rebalanced", "rebalanced") == {
        "rebalanced": f"chosen and {without} and the baseline: 70.0 [69.0, 71.0]"
    }


def test_the_candidates_that_were_dropped_come_last_with_their_number_of_seeds_and_no_interval():
    table = choice(*((name, "train", name == "filled", name == "real") for name in ("rebalanced", "filled", "real")))
    table["seeds"] = [1, 2, 2]
    summary = pd.DataFrame({"recipe": table["recipe"], "series": table["recipe"], "mean": 0.5, "low": 0.4, "high": 0.6})
    summary = summary.assign(metric="accuracy", subset="balanced", weighting="classes", stage="train")
    summary.loc[0, ["low", "high"]] = np.nan
    result = choice_table(table, summary, [PREDICTIONS])
    assert [(row["name"], row["seeds"]) for row in result["rows"]] == [("filled", 2), ("real", 2), ("rebalanced", 1)]
    assert [row["test"] for row in result["rows"]] == ["50.0 [40.0, 60.0]", "50.0 [40.0, 60.0]", "50.0"]
    assert result["without"] == "real" and result["dropped"]
    assert not choice_table(table.assign(seeds=2), summary, [PREDICTIONS])["dropped"]


@pytest.fixture
def predictions(tmp_path) -> tuple[pd.DataFrame, PredictionCounts]:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(3, 0.5), 600).astype(np.float32)
    label = rng.integers(3, size=600)
    rows = pd.DataFrame({"image_id": [f"{i:03}" for i in range(600)], "split": "test", "label": label})
    rows = rows.assign(label_name=[f"class {i}" for i in label], predicted=probabilities.argmax(1))
    rows["probabilities"] = list(probabilities)
    rows.loc[500:, "split"] = "validation"
    paths = [tmp_path / name for name in ("0.parquet", "1.parquet")]
    write_manifest("predictions", rows.iloc[:250], paths[0])
    write_manifest("predictions", rows.iloc[250:], paths[1])
    return rows.iloc[:500], count_predictions(paths, 3, "test")


def test_confusion_and_reliability_agree_with_the_metrics(predictions):
    rows, counts = predictions
    assert counts.confusion.sum() == 500
    assert counts.confusion[1, 2] == ((rows["label"] == 1) & (rows["predicted"] == 2)).sum()
    np.testing.assert_allclose(counts.shares.sum(1), 1)
    table = reliability_table(counts)
    error = (table["images"] * (table["accuracy"] - table["confidence"]).abs()).sum() / table["images"].sum()
    expected = score(rows, dict.fromkeys(range(3), "many"), resample(rows["label"].to_numpy())).loc[
        ("ece", "all", "images"), 0
    ]
    assert error == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("count", [10, 16, 17, 40])
def test_names_in_confusion_matrices_do_not_overlap(count):
    counts = PredictionCounts(np.eye(count, dtype=int), np.zeros((15, 3)))
    classes = pd.DataFrame({"label": range(count), "label_name": [f"class number {i}" for i in range(count)]})
    figure = confusion_figure({"real": counts, "synaug": counts}, classes)
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.get_ylabel() == "true class"]
    assert len(panels) == (1 if count <= 16 else 2)  # side by side, only the first one is named
    for labels, side in ((panels[0].get_yticklabels(), 1), (figure.axes[1].get_xticklabels(), 0)):
        boxes = sorted(label.get_window_extent().get_points()[:, side].tolist() for label in labels)
        assert all(below[1] <= above[0] + 1 for below, above in pairwise(boxes))


def test_confused_pairs_are_ordered_by_the_last_network():
    before = PredictionCounts(np.eye(3, dtype=int), np.zeros((15, 3)))
    after = PredictionCounts(np.array([[8, 2, 0], [5, 5, 0], [0, 0, 10]]), np.zeros((15, 3)))
    assert confused_pairs([before, after], ["a", "b", "c"]) == [
        {"name": "b", "predicted_as": "a", "shares": [0.0, 0.5]},
        {"name": "a", "predicted_as": "b", "shares": [0.0, 0.2]},
    ]


def test_bins_of_classes_count_the_images_of_their_classes():
    confusion = np.arange(16).reshape(4, 4)
    shares = binned_confusion(confusion, np.array([3, 2, 1, 0]), 2)
    assert shares[0, 0] == (15 + 14 + 11 + 10) / (12 + 13 + 14 + 15 + 8 + 9 + 10 + 11)
    np.testing.assert_allclose(shares.sum(1), 1)


@pytest.mark.parametrize("classes", [1, 10, 100, 1000, 2000])
def test_the_gallery_fits_on_the_page(classes):
    assert classes * sum(images_per_class(classes)) <= MOST_IMAGES
    assert min(images_per_class(classes)) >= 1


def test_the_gallery_shows_the_largest_and_the_smallest_of_many_classes():
    shown = shown_classes(pd.DataFrame({"real": np.arange(5000)[::-1]}))
    assert len(shown) == 2000 and shown["real"].iloc[[0, -1]].tolist() == [4999, 0]


def test_costs_sum_the_existing_records_and_count_them(tmp_path):
    (tmp_path / "costs").mkdir()
    cost = {"images_sampled": 100, "seconds": 60.0, "energy_joules": 3.6e6, "peak_memory_bytes": 2**30}
    (tmp_path / "costs" / "a.json").write_text(json.dumps(cost))
    (tmp_path / "costs" / "b.json").write_text("{")  # damaged
    jobs = tmp_path / "benchmarks" / "train"
    jobs.mkdir(parents=True)
    (jobs / "real-0.jsonl").write_text('{"s": 30.0, "max_rss": 1024}\n')
    (jobs / "real-1.jsonl").write_text('{"s": 40.0, "max_rss": "NA"}\n')
    networks = [("train", "real", 0), ("train", "real", 1), ("finetune", "real", 0)]
    rows = run_info.step_costs(tmp_path, ["a", "b"], networks)
    rows = {row.pop("step"): row for row in rows}
    expected = {"jobs": 2, "recorded": 1, "seconds": 60, "kwh": 1.0, "images": 100, "peak_bytes": 2**30}
    assert rows["sampling"] == expected
    expected = {"jobs": 2, "recorded": 2, "seconds": 70, "kwh": None, "images": None, "peak_bytes": 2**30}
    assert rows["training"] == expected
    assert rows["fine-tuning"]["recorded"] == rows["screening"]["recorded"] == 0


def test_code_outside_a_repository_has_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(run_info.synaug, "__file__", str(tmp_path / "__init__.py"))
    assert run_info.git_commit() is None


def test_advice_lists_losses_and_what_one_amount_cannot_show():
    classes = pd.DataFrame({"label_name": ["a", "b"], "synthetic": [0, 50], "before": [0.9, 0.2], "after": [0.8, 0.6]})
    differences = pd.DataFrame({"subset": ["class:a", "class:b"], "mean": [-0.1, 0.4], "high": [-0.05, 0.5]})
    differences = differences.assign(low=[-0.15, 0.3])
    summary = pd.DataFrame({"series": ["real", "synaug"], "mean": [0.02, 0.08], "seeds": 1})
    summary = summary.assign(metric="ece", subset="all", weighting="images")
    quality = pd.DataFrame({"label_name": [""], "metric": ["coverage"], "value": [0.3]})
    test_images = np.array([100, 20])
    names = ["real", "synaug"]
    texts = advice.experiment_advice(classes, names, differences, summary, quality, test_images, [])
    assert "on 1 of 2 classes" in texts[0] and "below 0: a." in texts[0]
    assert "it cannot tell. Accuracy rose in 1 of the 1 tested classes" in texts[1]
    assert "+40.0 points" in texts[1] and "30 %" in texts[1]
    assert "from 2.0 to 8.0 %" in texts[2] and "one seed only" in texts[3] and "± 22 points" in texts[4]
    others = advice.experiment_advice(classes, names, differences, summary, quality, test_images, [], True, 3)
    assert "The recipes use 3 amounts of them" in others[1]
    probe = pd.DataFrame({"series": ["mixed"], "mean": [0.97], "seeds": 1, "metric": DOMAIN_PROBE[0]})
    probe = probe.assign(subset=DOMAIN_PROBE[1], weighting=DOMAIN_PROBE[2])
    probed = pd.concat([summary, probe], ignore_index=True)
    # The main recipe has the stage 1 of another one.
    texts = advice.experiment_advice(classes, names, differences, probed, quality, test_images, [], True, 1, "mixed")
    assert any("97 % of the images as real or synthetic" in text for text in texts)
    agreeing = differences.assign(mean=-1.0, low=-1.0, high=-1.0)  # seeds that agree on one test image
    texts = advice.experiment_advice(classes, names, agreeing, summary, quality, test_images, [])
    assert not any("has a lower accuracy than" in text for text in texts)
    without = advice.experiment_advice(classes, names, differences, summary, quality, test_images, [], False)
    assert "more synthetic images" not in " ".join(without)


def test_quality_has_intervals_and_the_number_of_compared_images():
    rows = [("", "kid", 0.1, 0.05, 0.2, 30, "f"), ("", "planned", 9.0, None, None, 40, None)]
    rows += [("a", "kid", 0.3, None, None, 8, "f"), ("a", "fd", None, None, None, 8, "f")]
    names = ["label_name", "metric", "value", "low", "high", "images_real", "features"]
    all_classes, of_a = quality_table(pd.DataFrame(rows, columns=names), ["a"])
    assert all_classes["values"] == {"kid": 0.1, "planned": 9} and all_classes["compared"] == 30
    assert all_classes["intervals"] == {"kid": (0.05, 0.2)}
    assert of_a["values"] == {"kid": 0.3} and of_a["intervals"] == {} and of_a["compared"] == 8


def test_inline_figures_use_the_text_colour_and_unique_ids():
    classes = pd.DataFrame({"label_name": ["<a>", "b"], "real": [2, 1], "synthetic": [0, 1]})
    text = inline_svg(svg(fill_figure(classes)), "fill")
    assert "currentColor" in text and "#000000" not in text and "&lt;a&gt;" in text
    assert 'id="fill-' in text and 'id="figure_1"' not in text


@pytest.mark.parametrize("name", ["#000000", "#333333", "url(#clip)", ' id="axes_1"', 'href="#x"'])
def test_inline_figures_show_every_class_name_as_it_is(name):
    classes = pd.DataFrame({"label_name": [name, "b"], "real": [2, 1], "synthetic": [0, 1]})
    assert f">{name}</text>" in inline_svg(svg(fill_figure(classes)), "fill")


@pytest.mark.parametrize("seconds, text", [(0.4, "0 s"), (119, "119 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_an_image_in_a_damaged_row_group_has_no_thumbnail(tmp_path, pngs):
    """Only a rejected image can lie there; the page shows the others."""
    path = tmp_path / "shard.parquet"
    images = pa.array([{"bytes": data, "path": None} for data in pngs[:4]])
    pq.write_table(pa.table({"image": images}), path, row_group_size=2, use_dictionary=False, compression="NONE")
    start = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 20] = b"\xff" * 20
    path.write_bytes(data)
    uris = thumbnails(pd.DataFrame({"path": str(path), "row": range(4), "column": "image"}), 28, "grey")
    assert [bool(uri) for uri in uris] == [False, False, True, True]


@pytest.mark.parametrize("series", [2, 12])
def test_a_class_without_test_images_has_a_place_but_no_value_in_the_figure_of_accuracies(series):
    rows = [(f"recipe {i}", name, 0.5, 0.4, 0.6) for i in range(series) for name in ("hat", "bag")]
    accuracies = pd.DataFrame(rows, columns=["series", "label_name", "mean", "low", "high"])
    axes = accuracy_figure(accuracies, ["hat", "untested", "bag"]).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["hat", "untested", "bag"]
    assert "nan" not in [text.get_text() for text in axes.texts]


def test_an_interval_without_width_is_not_shown():
    assert interval(0.2, 0.4) == ["[20.0, 40.0]"]
    assert interval(0.2, 0.2) == interval(float("nan"), float("nan")) == []
    _, low, high = mean_interval(np.array([0.7] * 3))  # their mean is rounded
    assert low == high
