"""resources/fashion_mnist_colored/make.py: the colour depends on the class in training, and not in the test."""

import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synaug.config import Dataset
from synaug.datasets import index_dataset

SCRIPT = Path(__file__).parents[3] / "resources" / "fashion_mnist_colored" / "make.py"
make = runpy.run_path(str(SCRIPT))
COLORS, color_images, class_colors = make["COLORS"], make["color_images"], make["class_colors"]


def colored(strength, count=10, each=400, classes=10):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(classes), each))
    images = np.random.default_rng(2).integers(0, 256, (len(labels), 3, 2), dtype=np.uint8)
    colors = dict(list(COLORS.items())[:count])
    return images, labels, *color_images(images, labels, strength, colors, np.random.default_rng(3))


@pytest.mark.parametrize(("count", "strength"), [(10, 0.95), (2, 0.9), (3, 0.5), (10, 0.0), (10, 1.0), (10, 0.1)])
def test_in_training_the_share_with_the_colour_of_the_class_is_the_strength(count, strength):
    _, labels, _, chosen = colored(strength, count)
    of_class = class_colors(10, count)[labels]
    assert abs((chosen == of_class).mean() - strength) < 0.02
    others = np.bincount((chosen - of_class)[chosen != of_class] % count, minlength=count)[1:]
    assert others.std() <= 2 * others.mean() ** 0.5


def test_the_colours_are_spread_over_the_classes():
    assert class_colors(10, 2).tolist() == [0] * 5 + [1] * 5
    assert class_colors(10, 10).tolist() == list(range(10))
    assert class_colors(2, 2).tolist() == [0, 1]


@pytest.mark.parametrize(("count", "each"), [(10, 40), (2, 40), (7, 40), (10, 3)])
def test_in_the_test_every_class_has_every_colour_equally_often(count, each):
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


def test_the_seed_decides_the_colours():
    images, labels, pixels, chosen = colored(0.8)
    again, same = color_images(images, labels, 0.8, COLORS, np.random.default_rng(3))
    assert np.array_equal(again, pixels) and np.array_equal(same, chosen)
    for strength in (0.8, None):
        one, two = (color_images(images, labels, strength, COLORS, np.random.default_rng(s))[1] for s in (3, 4))
        assert not np.array_equal(one, two)


def test_images_that_are_not_grey_and_wrong_labels_are_errors():
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


@pytest.fixture
def grey(pngs) -> pa.Table:
    """20 images of the classes a and b in three splits; one of them cannot be decoded."""
    image = pa.array([{"bytes": data if i != 3 else b"no image", "path": None} for i, data in enumerate(pngs[:20])])
    splits = ["train"] * 10 + ["test"] * 6 + ["val"] * 4
    return pa.table({"image": image, "label_name": ["a", "b"] * 10, "split": splits})


def test_a_table_is_coloured_and_keeps_unusable_images(grey, tmp_path):
    table = make["color_table"](grey, 1.0, size=28)
    pq.write_table(table, tmp_path / "colored.parquet")
    block = {"source": "table", "path": str(tmp_path / "colored.parquet"), "image_size": 28, "color": "rgb"}
    block |= {"label_column": "label_name", "group_columns": ["color"], "validation_split": "val"}
    rows = index_dataset(Dataset(**block))
    train = rows[(rows["split"] == "train") & rows["usable"]]
    assert set(zip(train["label_name"], train["group"], strict=True)) == {("a", "red"), ("b", "green")}
    for split, count in (("test", 6), ("val", 4)):
        held_out = rows[rows["split"] == split]
        assert len(held_out) == count and held_out.groupby(["label_name", "group"]).size().between(1, 2).all()
    assert (~rows["usable"]).sum() == 1
    # The same images of the same seed, byte for byte; others of another.
    assert make["color_table"](grey, 1.0, size=28).equals(table)
    assert not make["color_table"](grey, 1.0, seed=1, size=28).equals(table)


def test_the_command_reads_a_folder_of_tables(grey, tmp_path, monkeypatch, capsys):
    def run(*arguments) -> None:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        make["main"]()

    (tmp_path / "grey").mkdir()
    for number, part in enumerate((grey[:10], grey[10:])):
        pq.write_table(part, tmp_path / "grey" / f"{number}.parquet")
    run(tmp_path / "grey", tmp_path / "out", "--strength", 0.9, "--colors", 3, "--seed", 2)
    assert pq.read_table(tmp_path / "out" / "images.parquet").equals(make["color_table"](grey, 0.9, 3, 2, 32))
    shutil.rmtree(tmp_path / "grey")
    with pytest.raises(SystemExit):
        run(tmp_path / "grey", tmp_path / "out", "--strength", 0.9)
    assert "is neither a Parquet table nor a folder" in capsys.readouterr().err
