"""Grey images in colours that go with the class in training and not in the test."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synaug.datasets.colored import COLORS, color_images, own_colors, paint

from synaug.config import Dataset
from synaug.datasets import index_dataset
from synaug.datasets.published import as_table


def colored(strength, count=10, each=400, classes=10):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(classes), each))
    images = np.random.default_rng(2).integers(0, 256, (len(labels), 3, 2), dtype=np.uint8)
    colors = dict(list(COLORS.items())[:count])
    return images, labels, *color_images(images, labels, strength, colors, np.random.default_rng(3))


@pytest.mark.parametrize(("count", "strength"), [(10, 0.95), (2, 0.9), (3, 0.5), (10, 0.0), (10, 1.0), (10, 0.1)])
def test_in_training_the_colour_goes_with_the_class_as_often_as_asked_for(count, strength):
    _, labels, _, chosen = colored(strength, count)
    own = own_colors(10, count)[labels]
    assert abs((chosen == own).mean() - strength) < 0.02
    others = np.bincount((chosen - own)[chosen != own] % count, minlength=count)[1:]
    assert others.std() <= 2 * others.mean() ** 0.5


def test_own_colours_are_spread_over_the_classes():
    assert own_colors(10, 2).tolist() == [0] * 5 + [1] * 5
    assert own_colors(10, 10).tolist() == list(range(10))
    assert own_colors(2, 2).tolist() == [0, 1]


@pytest.mark.parametrize(("count", "each"), [(10, 40), (2, 40), (7, 40), (10, 3)])
def test_in_the_test_every_class_has_every_colour_alike(count, each):
    _, labels, _, chosen = colored(None, count, each)
    table = np.zeros((10, count), int)
    np.add.at(table, (labels, chosen), 1)
    assert np.ptp(table, axis=1).max() == (each % count > 0)


def test_images_are_multiplied_by_their_colours_and_black_stays_black():
    images, _, pixels, chosen = colored(0.5)
    assert pixels.shape == (*images.shape, 3) and pixels.dtype == np.uint8
    assert not pixels[images == 0].any()
    palette = np.array(list(COLORS.values()))
    exact = images[..., None] * (palette[chosen][:, None, None] / 255)
    assert np.abs(pixels - exact).max() <= 0.5
    apart = np.linalg.norm(palette[:, None] - palette[None], axis=-1)[np.triu_indices(10, 1)]
    assert apart.min() > 90


def test_colours_are_the_same_each_time_and_others_with_another_seed():
    images, labels, pixels, chosen = colored(0.8)
    again, same = color_images(images, labels, 0.8, COLORS, np.random.default_rng(3))
    assert np.array_equal(again, pixels) and np.array_equal(same, chosen)
    for strength in (0.8, None):
        one, two = (color_images(images, labels, strength, COLORS, np.random.default_rng(s))[1] for s in (3, 4))
        assert not np.array_equal(one, two)


def test_colouring_what_is_no_set_of_grey_images_is_an_error():
    images, labels, rng = np.zeros((4, 2, 2), np.uint8), np.arange(4), np.random.default_rng(0)
    for wrong in (
        (images[..., None], labels, 0.9, COLORS),
        (images.astype(float), labels, 0.9, COLORS),
        (images, labels[:3], 0.9, COLORS),
        (images, labels - 1, 0.9, COLORS),
        (images, labels, 1.1, COLORS),
        (images, labels, None, {"red": (255, 0, 0)}),
    ):
        with pytest.raises(ValueError):
            color_images(*wrong, rng)


def test_a_table_is_painted_and_keeps_what_cannot_be(tmp_path, pngs):
    labels = ["a", "b"] * 10
    splits = ["train"] * 10 + ["test"] * 6 + ["val"] * 4
    image = pa.array([{"bytes": data if i != 3 else b"no image", "path": None} for i, data in enumerate(pngs[:20])])
    pq.write_table(pa.table({"image": image, "label": labels, "split": splits}), tmp_path / "grey.parquet")
    block = {"source": "table", "path": str(tmp_path / "grey.parquet"), "image_size": 28, "color": "rgb"}
    dataset = Dataset(**block, group_columns=["color"], painted={"strength": 1.0}, validation_split="val")
    pq.write_table(paint(dataset), tmp_path / "painted.parquet")
    rows = index_dataset(as_table(dataset, str(tmp_path / "painted.parquet"), ["color"]))
    train = rows[(rows["split"] == "train") & rows["usable"]]
    assert set(zip(train["label_name"], train["group"], strict=True)) == {("a", "red"), ("b", "green")}
    for split, count in (("test", 6), ("val", 4)):
        held_out = rows[rows["split"] == split]
        assert len(held_out) == count and held_out.groupby(["label_name", "group"]).size().between(1, 2).all()
    assert (~rows["usable"]).sum() == 1
    # The same images of the same seed, byte for byte; others of another.
    assert paint(dataset).equals(paint(dataset))
    other = dataset.model_copy(update={"painted": dataset.painted.model_copy(update={"seed": 1})})
    assert not paint(other).equals(paint(dataset))
