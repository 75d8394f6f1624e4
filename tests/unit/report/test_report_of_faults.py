"""The section of the report about faults in the data."""

import re

import pytest

from small_experiment import Experiment
from synaug.config import Config
from synaug.manifests import read_manifest, write_manifest


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, pngs) -> Experiment:
    """A training image with a wrong label, an outlier, a near-duplicate, and a leak, which the config drops."""
    experiment = Experiment(tmp_path_factory.mktemp("faults"), pngs)
    real = read_manifest("real", experiment.paths.real)
    of_split = {split: real.index[(real["split"] == split) & real["usable"]] for split in ("train", "test")}
    wrong, outlier, copy, original, leak = of_split["train"][:5]
    real["label_quality"] = 0.5
    real.loc[wrong, ["label_quality", "suggested_label"]] = [0.012, "boot"]
    real.loc[outlier, "outlier_score"] = 5.26
    real.loc[copy, "duplicate_of"] = real.loc[original, "image_id"]
    real.loc[leak, "leak_of"] = real.loc[of_split["test"][0], "image_id"]
    real.loc[leak, ["usable", "reason"]] = [False, "dropped: near-duplicate of an image of a held-out split"]
    write_manifest("real", real, experiment.paths.real)
    experiment.settings["dataset"] |= {"faults": {"find": True, "drop": ["leaks"]}}
    experiment.config = Config.model_validate(experiment.settings)
    experiment.section = (
        experiment.write_report().read_text().partition('<h2 id="faults">')[2].partition("</section>")[0]
    )
    return experiment


def texts(html: str) -> list[str]:
    """The words of each item or cell."""
    found = re.findall(r"<(?:li|td|th)[^>]*>(.*?)</(?:li|td|th)>", html, re.DOTALL)
    return [" ".join(re.sub("<[^>]*>", " ", text).split()) for text in found]


def test_faults_are_counted_and_the_dropped_ones_too(experiment):
    rows = re.findall(r"<tr>.*?</tr>", experiment.section, re.DOTALL)
    assert texts(rows[0])[2:] == ["label issues", "outliers", "near-duplicates", "leaks"]
    assert texts(rows[1]) == ["train", "42", "1", "1", "1", "1 1 dropped"]
    assert texts(rows[2]) == ["test", "60", "0", "0", "0", "0"]


def test_the_worst_are_shown_with_what_is_said_of_them(experiment):
    items = texts(experiment.section)
    first = "it&#39;s &#34;wide&#34;"
    assert f"{first} → boot 0.012" in items and f"{first} 5.3" in items
    assert f"train: {first} train: {first}" in items and f"train: {first} test: {first}" in items
    assert experiment.section.count('<img src="data:image/webp') == 6
    assert len([item for item in items if "pictures.parquet, row" in item]) == 6
