"""From measuring to the page, for data that the workflow accepts although it is odd."""

import errno
import re
from pathlib import Path

import pandas as pd
import pytest

from small_experiment import Experiment
from synaug.config import Config
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.errors import UserError

ODD = {
    "a class without a test image": ({"hat": 30, "bag": 8, "boot": 3}, [20, 20, 0]),
    "the largest class without a test image": ({"hat": 30, "bag": 8, "boot": 3}, [0, 20, 20]),
    "one class with test images": ({"hat": 30, "bag": 8, "boot": 3}, [0, 1, 0]),
    "classes of 1 and 2 images": ({"hat": 30, "bag": 2, "boot": 1}, [3, 1, 2]),
    "two classes": ({"hat": 30, "bag": 1}, [1, 1]),
    "names with dollar signs": ({r"$\frac{1}$": 30, "US$ 5 and CA$ 9": 8, "$x_1$ <b>": 3}, [20, 20, 20]),
}


@pytest.mark.parametrize("groups", [False, True], ids=["classes", "groups"])
@pytest.mark.parametrize("name", ODD)
def test_odd_data_end_in_a_report(tmp_path, pngs, name, groups):
    classes, test_images = ODD[name]
    if groups and sum(test_images) < 2:
        test_images = [2 * count for count in test_images]
    experiment = Experiment(tmp_path, pngs, groups, classes, test_images)
    text = experiment.write_report().read_text()
    assert ">nan<" not in text and ">None<" not in text
    summary = read_manifest("summary", experiment.paths.summary)
    tested = {f"class:{label}" for label, count in zip(classes, test_images, strict=True) if count}
    assert {subset for subset in summary["subset"] if subset.startswith("class:")} == tested


def test_the_first_lines_say_how_many_classes_have_no_validation_image(tmp_path, pngs):
    experiment = Experiment(tmp_path, pngs)
    experiment.write_choice()
    dataset = experiment.settings["dataset"] | {"validation_split": "val"}
    experiment.config = Config.model_validate(experiment.settings | {"dataset": dataset})
    real = read_manifest("real", experiment.paths.real)

    def first_lines(labels: list[int]) -> str:
        """Of the page, if these classes have validation images."""
        validation = real[(real["split"] == "test") & real["label"].isin(labels)]
        validation = validation.assign(split="val", image_id="val" + validation["image_id"])
        write_manifest("real", pd.concat([real, validation]), experiment.paths.real)
        return re.search(r'<p class="chosen">.*?</p>', experiment.write_report().read_text(), re.DOTALL)[0]

    assert "2 classes without a validation image do not count in this choice." in first_lines([0])
    assert "1 class without a validation image does not count in this choice." in first_lines([0, 1])
    assert "without a validation image" not in first_lines([0, 1, 2])


def test_names_with_dollar_signs_are_drawn_as_they_are(tmp_path, pngs):
    classes, test_images = ODD["names with dollar signs"]
    experiment = Experiment(tmp_path, pngs, True, classes, test_images)
    experiment.write_report()
    for name in ("fill", "cells", "confusion"):
        figure = (experiment.folder / "figures" / f"{name}.svg").read_text()
        shown = re.findall(r"<text[^>]*>([^<]*)</text>", figure)
        assert {r"$\frac{1}$", "US$ 5 and CA$ 9", "$x_1$ &lt;b&gt;"} <= set(shown), (name, shown)


def test_a_full_disk_is_one_line(tmp_path, pngs, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    experiment = Experiment(tmp_path, pngs, False, {"hat": 30, "bag": 8}, [3, 3])
    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(UserError, match=r"report\.html: cannot be written, the disk is full: about .* MB are needed"):
        experiment.write_report()
