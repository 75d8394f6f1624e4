"""An adapter sees the training images, whole, and captions that are true of them."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from synaug.config import Prompts
from synaug.generator.adapt_data import read_training_images, whole_image
from synaug.manifests import write_manifest
from synaug.plan.prompts import caption_prompts
from synaug.runtime.errors import UserError


@pytest.fixture
def real(tmp_path):
    """A function: (class, split, usable, group) of each image to the path of the manifest `real`."""

    def real(rows: list[tuple]) -> str:
        table = pd.DataFrame(rows, columns=["label_name", "split", "usable", "group"])
        table["label"] = table["label_name"].rank(method="dense").astype(int) - 1
        table["image_id"] = [f"{i:04}" for i in range(len(rows))]
        table["attributes"] = [[group] for group in table["group"]]
        table = table.assign(path="a.png", row=pd.NA, sha256="", width=2, height=2)
        write_manifest("real", table, tmp_path / "real.parquet")
        return str(tmp_path / "real.parquet")

    return real


def test_images_of_other_splits_and_unusable_images_are_never_trained_on(real):
    path = real(
        [("cat", "train", True, ""), ("cat", "test", True, ""), ("dog", "validation", True, ""),
         ("dog", "train", True, ""), ("cat", "train", False, "")]
    )  # fmt: skip
    images = read_training_images(path, "train", Prompts())
    assert images.rows["image_id"].tolist() == ["0000", "0003"]
    assert images.labels.tolist() == [0, 1]
    assert images.captions == [["a photo of a cat"], ["a photo of a dog"]]
    with pytest.raises(UserError, match="has no usable image in the split 'training'"):
        read_training_images(path, "training", Prompts())


def test_captions_name_class_and_group_and_a_class_without_a_training_image_may_have_a_name(real):
    path = real([("cat", "train", True, "red"), ("cat", "train", True, "blue"), ("dog", "test", True, "red")])
    prompts = Prompts(templates=["a {colour} {label}", "{label}"], names={"cat": "tabby", "dog": "poodle"})
    images = read_training_images(path, "train", prompts, ["colour"])
    assert images.cells["group"].tolist() == ["blue", "red"]
    assert images.captions == [["a blue tabby", "tabby"], ["a red tabby", "tabby"]]
    assert images.rows["group"].to_numpy()[images.labels == 0].tolist() == ["blue"]


def test_captions_have_no_modifiers_and_no_finished_prompts():
    prompts = Prompts(
        templates=["a photo of a {label}, {modifier}", "a {modifier} photo of a {label}", "{modifier}, {label}",
                   "a {label} ({modifier})", "a photo of a {label}"],
        modifiers="general", names={"cat": "tabby"}, file="prompts.csv", negative="blur",
    )  # fmt: skip
    captions = caption_prompts(prompts)
    assert captions.templates == ["a photo of a {label}", "{label}", "a {label}"]
    assert (captions.modifiers, captions.file, captions.negative) == (None, None, "")
    assert captions.names == {"cat": "tabby"}


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16), (1, 30), (24, 17)])
def test_nothing_of_an_image_is_cut_off_or_distorted(shape):
    pixels = np.full((*shape, 3), 90, np.uint8)
    pixels[0, 0], pixels[-1, -1] = (255, 0, 0), (0, 0, 255)
    height, width = shape
    pixels[: max(1, height // 4), : max(1, width // 4)] = (255, 0, 0)
    pixels[-max(1, height // 4) :, -max(1, width // 4) :] = (0, 0, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    square = whole_image(buffer.getvalue(), 24, "rgb").astype(int)
    assert square.shape == (24, 24, 3)
    assert (square[..., 0] > square[..., 2] + 80).any() and (square[..., 2] > square[..., 0] + 80).any()
    assert whole_image(buffer.getvalue(), 24, "grey").shape == (24, 24, 1)


def test_the_rest_of_the_square_is_the_mirror_image():
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(np.uint8([[10], [200]]), 4, axis=1)).save(buffer, "PNG")
    assert whole_image(buffer.getvalue(), 4, "grey")[:, 0, 0].tolist() == [10, 10, 200, 200]
