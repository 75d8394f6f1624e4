"""`synaug compare`: what the page of two experiments shows, what is paired, and the errors."""

import copy
import html
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from browser import Browser, find_chromium
from small_experiment import CLASSES, NETWORKS, SETTINGS, Experiment, Inputs
from synaug.config import Config, load_config
from synaug.evaluation.scorer import Scorer
from synaug.manifests import read_manifest, write_manifest
from synaug.report.compare_data import _common_resamples
from synaug.report.compare_page import config_changes
from synaug.report.page import config_on_page


@pytest.fixture(scope="module")
def two(tmp_path_factory, pngs):
    """The results of two experiments with the same test images: other predictions, and another Mixup in B.

    Of their reports only the config is there.
    """
    folder = tmp_path_factory.mktemp("two") / "results"
    a = Experiment(folder / "one", pngs)
    b = copy.copy(a)
    b.folder = shutil.copytree(a.folder, folder / "other")
    b.paths = Inputs({name: str(b.folder / f"{name}.parquet") for name in a.paths})
    test = read_manifest("real", b.paths.real)
    test = test[test["split"] == "test"].reset_index(drop=True)
    for number, network in enumerate(NETWORKS):
        b.write_network(network, test, np.random.default_rng(50 + number))
    b.write_results()
    recipes = SETTINGS["recipes"] | {"synaug": SETTINGS["recipes"]["synaug"] | {"stage1": {"mixup": {"alpha": 0.2}}}}
    for experiment, settings in ((a, SETTINGS), (b, SETTINGS | {"recipes": recipes})):
        config = html.escape(Config.model_validate(settings).model_dump_json(indent=2))
        (experiment.folder / "report.html").write_text(f'<pre aria-label="The whole config">{config}</pre>')
    return a.folder, b.folder


@pytest.fixture
def copies(two, tmp_path):
    """The results, moved to another place, to do with as one likes."""
    return [shutil.copytree(folder, tmp_path / name) for folder, name in zip(two, "ab", strict=True)]


@pytest.fixture
def page(synaug, tmp_path):
    """A function: two folders to the rows of text of the page, what was printed, and the file."""

    def page(a, b):
        file = tmp_path / "compare.html"
        status, out, err = synaug("compare", a, b, "--output", file)
        assert (status, err) == (0, "")
        rows = re.findall(r"<tr>(.*?)</tr>", file.read_text(), re.DOTALL)
        cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
        clean = lambda cell: html.unescape(re.sub("<[^>]*>", " ", cell.replace("<wbr>", ""))).strip()  # noqa: E731
        return [[clean(cell) for cell in row] for row in cells], out, file

    return page


def accuracy(folder, stage: str, recipe: str, seed: int) -> float:
    rows = read_manifest("predictions", folder / stage / recipe / str(seed) / "predictions.parquet")
    return 100 * (rows["predicted"] == rows["label"]).groupby(rows["label"]).mean().mean()


def test_the_page_shows_what_differs_and_the_paired_results(two, page):
    rows, out, file = page(*two)
    assert ["recipes.synaug.stage1.mixup.alpha", "0.5", "0.2"] in rows
    assert ["real training images", "41", "41", "41"] in rows
    assert ["planned synthetic images", "98", "98", "98"] in rows
    [row] = [row for row in rows if row[:2] == ["real", "balanced"]]
    a, b = (np.array([accuracy(folder, "train", "real", seed) for seed in (0, 1)]) for folder in two)
    number = r"[+-]?\d+\.\d"
    values = [float(re.match(number, cell)[0]) for cell in row[2:5]]
    assert values == pytest.approx([a.mean(), b.mean(), (b - a).mean()], abs=0.06)
    assert re.fullmatch(rf"{number} +\[{number}, {number}\] s, \[{number}, {number}\] i", row[4]) and row[5] == "2"
    assert {row[0] for row in rows} >= set(CLASSES)
    assert "synaug + fine-tune, balanced accuracy in %: A" in out and str(file) in out
    assert not re.search(r"(src|href)=\"?(http|//)", file.read_text())


def test_an_experiment_does_not_differ_from_its_copy(two, copies, page):
    rows, _, file = page(two[0], copies[0])
    assert "All keys are the same." in file.read_text() and 'class="note"' not in file.read_text()
    differences = [row[4] for row in rows if row[1] in ("balanced", "few")]
    assert differences == ["+0.0"] * 6  # without intervals, which would have no width


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: rows.iloc[1:], "of 60 test images in A and 59 in B, 59 are the same"),
        (lambda rows: rows.assign(label_name=rows["label_name"].astype(str).where(rows.index > 0, "boot")),
         "1 test images have another class in B"),
    ],
)  # fmt: skip
def test_other_test_images_are_not_paired(copies, page, change, reason):
    for file in copies[1].glob("*/*/*/predictions.parquet"):
        write_manifest("predictions", change(read_manifest("predictions", file)), file)
    rows, out, file = page(*copies)
    assert f"The results are not paired: {reason}." in out and reason in file.read_text()
    [row] = [row for row in rows if row[:2] == ["real", "balanced"]]
    assert re.fullmatch(r"[+-]\d+\.\d", row[4]) and len(row) == 5


def test_results_without_their_predictions_are_shown(copies, page):
    shutil.rmtree(copies[0] / "train")
    _, out, _ = page(*copies)
    assert re.search(r"not paired, since .*train/real/0/predictions\.parquet is missing", out)


def test_a_recipe_of_one_experiment_only(copies, page):
    """Here B has called `real` otherwise, and has other seeds."""
    for name in ("metrics", "summary", "differences"):
        rows = read_manifest(name, copies[1] / f"{name}.parquet")
        rows = rows.assign(recipe=rows["recipe"].astype(str).replace("real", "plain"))
        if name == "metrics":
            rows["seed"] += 10
        if name == "differences":
            rows["baseline_recipe"] = rows["baseline_recipe"].astype(str).replace("real", "plain")
        write_manifest(name, rows, copies[1] / f"{name}.parquet")
    report = copies[1] / "report.html"
    report.write_text(report.read_text().replace("&quot;real&quot;: {", "&quot;plain&quot;: {"))
    for old in list(copies[1].glob("*/*/[01]")):
        place = old.parent.parent / old.parent.name.replace("real", "plain") / str(int(old.name) + 10)
        shutil.move(old, place)
    rows, out, _ = page(*copies)
    [alone] = [row for row in rows if row[:2] == ["plain", "balanced"]]
    assert alone[2] == "" and alone[3] and alone[4] == ""
    assert ["recipes.plain", "-", '{"data": "real"}'] in rows
    assert "The results of synaug + fine-tune are not paired, since they have no seed in common." in out


def with_config(folder, change) -> None:
    """Give the report in `folder` a config that `change` has changed."""
    report = folder / "report.html"
    config = config_on_page(report)
    change(config)
    report.write_text(f'<pre aria-label="The whole config">{html.escape(json.dumps(config))}</pre>')


def test_results_with_keys_and_values_that_are_refused_today_are_compared(copies, page):
    """They were allowed when the experiment ran: rules become stricter."""

    def as_in_an_earlier_version(config):
        config["dataset"]["upright"] = True  # no key of today
        del config["balance"]["keep"], config["generation"]["attention"]  # keys that it did not have
        config["recipes"]["synaug"]["stage1"] |= {"learning_rate": -1, "loss": {"name": "poly", "gamma": 3.0}}
        config["recipes"]["synaug"]["stage2"]["tau"] = 9.0  # has no effect

    with_config(copies[0], as_in_an_earlier_version)
    rows, out, _ = page(*copies)
    changes = {row[0]: row[1:] for row in rows if row and re.match(r"(dataset|recipes|balance|generat)", row[0])}
    rate = Config.model_validate(SETTINGS).training.learning_rate
    assert changes == {
        "dataset.upright": ["true", "-"],
        "recipes.synaug.stage1.learning_rate": ["-1.0", str(rate)],
        "recipes.synaug.stage1.mixup.alpha": ["0.5", "0.2"],
        "recipes.synaug.stage1.loss.name": ["poly", "cross_entropy"],
        "recipes.synaug.stage1.loss.gamma": ["3.0", "1.0"],
        "recipes.synaug.stage2.tau": ["9.0", "1.0"],
    }
    assert "synaug + fine-tune, balanced accuracy in %: A" in out and "not paired" not in out


def test_the_options_of_a_scheduler_are_part_of_its_value(copies, page):
    options = {"name": "DDIMScheduler", "timestep_spacing": "trailing"}
    with_config(copies[0], lambda config: config["generation"].update(scheduler=options))
    with_config(copies[1], lambda config: config["generation"].update(scheduler="DDIMScheduler"))
    rows, _, _ = page(*copies)
    (row,) = [row for row in rows if row and row[0].startswith("generation.scheduler")]
    assert json.loads(row[1]) == options and row[2] == "DDIMScheduler"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda config: config.pop("dataset"), "dataset"),
        (lambda config: config.update(recipes=["real"]), "recipes"),
        (lambda config: config["recipes"]["synaug"].pop("data"), "recipes.synaug.data"),
    ],
)
def test_a_config_without_what_the_comparison_needs_is_one_line(copies, synaug, tmp_path, change, key):
    with_config(copies[1], change)
    status, out, err = synaug("compare", *copies, "--output", tmp_path / "no.html")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.endswith(f"b/report.html: its config has no {key}; delete the page and run the workflow again\n")


def test_resamples_are_the_same_whatever_the_order_of_images_and_the_number_of_classes():
    images = pd.DataFrame({"image_id": list("abcdef"), "label": [0, 0, 0, 1, 1, 1], "label_name": list("xxxyyy")})
    other = images.iloc[[4, 3, 5, 2, 0, 1]].reset_index(drop=True).assign(label=[0, 0, 0, 1, 1, 1])
    scorers = [Scorer(rows, {}, [], rows["label"].to_numpy()) for rows in (images, other)]
    drawn = [
        pd.DataFrame(resamples.within, columns=scorer.images["image_id"])
        for scorer, resamples in zip(scorers, _common_resamples(*scorers), strict=True)
    ]
    pd.testing.assert_frame_equal(drawn[0], drawn[1][drawn[0].columns])
    assert (drawn[0].loc[1:, list("abc")].sum(axis=1) == 2).all()


def test_a_key_that_recipes_take_from_another_block_is_listed_once():
    changed = load_config(SETTINGS | {"training": {"steps": 77}, "seeds": [0]})
    changes = config_changes(load_config(SETTINGS), changed)
    assert [key for key, *_ in changes] == ["training.steps", "seeds"]
    assert changes[1][1:] == ("[0, 1]", "[0]")


def test_a_key_that_recipes_and_fills_with_dots_in_their_names_inherit_is_listed_once():
    recipes = {"focal-0.5": {"data": "real"}, "focal-1.0": {"data": "real"}, "filled": {"data": "balanced"}}
    recipes["filled"]["fill"] = {"name": "sd1.5"}
    settings = SETTINGS | {"recipes": recipes, "fills": {"sd1.5": {}}}
    a = load_config(settings)
    b = load_config(settings | {"training": {"steps": 7}, "generation": settings["generation"] | {"guidance": 3.5}})
    assert [key for key, *_ in config_changes(a, b)] == ["generation.guidance", "training.steps"]


def test_what_cannot_be_compared_is_one_line(synaug, two, copies, tmp_path):
    (copies[0] / "report.html").unlink()
    study, empty, other = tmp_path / "study", tmp_path / "empty", tmp_path / "other"
    for folder in (study, empty):
        folder.mkdir()
    (study / "study.parquet").touch()
    shutil.copytree(copies[1], other)
    imbalance = read_manifest("imbalance", other / "imbalance.parquet")
    imbalance["label_name"] = imbalance["label_name"].astype(object).replace("boot", "shoe")
    write_manifest("imbalance", imbalance, other / "imbalance.parquet")
    (copies[1] / "report.html").write_text("<html></html>")
    for folder, message in (
        (tmp_path / "gone", "no such folder"),
        (study, "is a study; name two of its variants"),
        (empty, "holds no experiment"),
        (copies[0], "is not finished (there is no report.html)"),
        (copies[1], "shows no config"),
        (other, "has 'boot', only"),
    ):
        status, out, err = synaug("compare", two[0], folder, "--output", tmp_path / "no.html")
        assert (status, out) == (2, "") and message in err and err.count("\n") == 1, err
    assert not (tmp_path / "no.html").exists()


@pytest.mark.skipif(not find_chromium(), reason="no Chromium is installed: `apt-get install chromium`")
def test_the_page_fits_on_a_phone(two, page):
    *_, file = page(*two)
    with Browser(390, 844, dark=True) as phone:
        phone.open(file)
        assert phone.evaluate("document.documentElement.scrollWidth") == 390
        assert phone.complaints() == []
