"""A data set of every source, with unusable images where its layout allows them, goes through to a trained network."""

from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pandas as pd
import pytest
from layouts import (
    CLASSES,
    UNNAMED,
    arrow_table,
    samples,
    write_arrow,
    write_birds,
    write_celeba,
    write_cifar,
    write_faces,
    write_fashion,
    write_lists,
    write_mnist,
    write_parquet,
    write_tar,
)

from balance.build_balanced_manifest import main as build_balanced_manifest
from dataset.convert_dataset import main as convert_dataset
from dataset.index_dataset import main as index_dataset
from imbalance.measure_imbalance import main as measure_imbalance
from screening.fit_screener import main as fit_screener
from synaug.config import Balance, Dataset, Imbalance, Recipe
from synaug.datasets import PACKED, PUBLISHED, as_table
from synaug.datasets.fashion_mnist import CLASSES as ITEMS
from synaug.images.packing import PixelCache
from synaug.manifests import class_names, read_manifest, write_manifest
from synaug.manifests.schemas import SCHEMAS
from synaug.networks.classifier import load_classifier
from synaug.training.data import SmallImages
from training.train import checkpoint_of
from training.train import main as train

SOURCES = get_args(Dataset.model_fields["source"].annotation)


def make_dataset(source: str, root: Path, pngs: list[bytes]) -> tuple[dict, list[str], int]:
    """Write a data set of `source`. Returns keys of the config, the class names, and how many images are not usable."""
    labels = ["cat", "dog"] * 6
    root.mkdir()
    match source:
        case "folder":
            for number, label in enumerate(labels):
                folder = root / ("train" if number < 8 else "test") / label
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{number}.png").write_bytes(pngs[number])
            (root / "train" / "cat" / "notes.txt").write_text("not an image")
            return {"path": str(root)}, ["cat", "dog"], 1
        case "table":
            write_parquet(root / "images.parquet", [b"not an image", *pngs], ["dog", *labels])
            return {"path": str(root)}, ["cat", "dog"], 1
        case "webdataset":
            write_tar(root / "train.tar", {"x.png": b"not an image", "x.cls": b"cat"} | samples(pngs, labels[:8]))
            write_tar(root / "test.tar", samples(pngs, labels[8:], 8))
            return {"path": str(root)}, ["cat", "dog"], 1
        case "huggingface":
            for split, start in (("train", 1), ("test", 7)):
                table = arrow_table([b"", *pngs], labels[:6], start - (split == "train"))
                write_arrow(root / split / "data-00000-of-00001.arrow", table)
            return {"path": str(root)}, ["cat", "dog"], 1
        case "torchvision":
            return {"path": str(write_mnist(root, pngs)), "name": "MNIST"}, ["3 - three", "7 - seven"], 0
        case "image_list":
            lists = write_lists(root, pngs)
            with open(lists["train"], "a") as file:
                file.write("train/missing.JPEG 0\n")
            return {"path": str(root), "lists": lists}, ["0", "1", "2"], 1
        case "cifar10" | "cifar100":
            write_cifar(root, source)
            return {"path": str(root)}, sorted(CLASSES[source]), 0
        case "fashion_mnist":
            write_fashion(root)
            return {"path": str(root)}, sorted(ITEMS), 0
        case "utkface":
            names = [f"{20 + n}_{n % 2}_{n % 5}_2016121914062309{n:02}.jpg.chip.jpg" for n in range(24)]
            write_faces(root, {**dict(zip(names, pngs, strict=False)), **dict.fromkeys(UNNAMED, pngs[30])})
            return {"path": str(root), "label_column": "gender", "group_columns": ["race"]}, ["female", "male"], 3
        case "waterbirds":
            images = {f"{n}.jpg": pngs[n] for n in range(12)}
            rows = [f"{n},{n}.jpg,{n % 2},{0 if n < 8 else 2},{n // 2 % 2},/o" for n in range(13)]  # 12.jpg is missing
            return {"path": str(write_birds(root, rows, images))}, ["landbird", "waterbird"], 1
        case "celeba":
            names = [f"{n:06}.jpg" for n in range(12)]
            values = {name: f"1 1 1 1 {(-1) ** n} 1" for n, name in enumerate(names)}
            parts = {name: 0 if n < 8 else 2 for n, name in enumerate(names)}
            images = dict(zip(names[1:], pngs, strict=False))  # the first one is missing
            return (
                {"path": str(write_celeba(root, values, parts, images)), "label_column": "Male"},
                ["female", "male"],
                1,
            )
    raise ValueError(f"no layout of {source}")


@pytest.mark.parametrize("source", SOURCES)
def test_a_network_is_trained_on_the_images_of_every_source(source, tmp_path, pngs, monkeypatch):
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    block, classes, unusable = make_dataset(source, tmp_path / "data", pngs)
    dataset = Dataset(source=source, image_size=8, color="grey", **block)
    results = tmp_path / "results" / "test"
    results.mkdir(parents=True)
    real, imbalance, synthetic, balanced = (
        str(results / f"{name}.parquet") for name in ("real", "imbalance", "synthetic", "balanced")
    )
    if source in {*PACKED, *PUBLISHED}:
        convert_dataset(dataset.model_dump(), str(results / "dataset.parquet"))
        dataset = as_table(dataset, str(results / "dataset.parquet"))
    index_dataset(dataset.model_dump(), real)
    images = read_manifest("real", real)
    assert (~images["usable"]).sum() == unusable
    assert class_names(images) == classes
    measure_imbalance(real, "train", Imbalance().model_dump(), imbalance)
    write_manifest("synthetic", pd.DataFrame(columns=SCHEMAS["synthetic"].names), synthetic)
    build_balanced_manifest(
        real, synthetic, imbalance, "train", Balance(strategy="fixed", target=1).model_dump(), balanced
    )
    assert len(read_manifest("balanced", balanced)) == (images["usable"] & (images["split"] == "train")).sum()

    recipe = Recipe(data="real", stage1={"steps": 2, "width": 4, "batch_size": 4})
    form = {"image_size": 8, "color": "grey"}
    out = SimpleNamespace(**{name: str(tmp_path / name) for name in ("model", "history", "predictions")})
    settings = form | {"held_out": ["test"], "recipe": recipe.model_dump(include={"data", "stage1"})}
    pixels = SmallImages(PixelCache(results / "pixels", 8, "grey"))
    train(balanced, pixels, real, "train", settings, 0, checkpoint_of(results, "real", 0, []), out)
    assert load_classifier(out.model).config["classes"] == classes
    predictions = read_manifest("predictions", out.predictions)
    assert len(predictions) == (images["usable"] & (images["split"] == "test")).sum()
    assert [classes[label] for label in predictions["label"]] == predictions["label_name"].tolist()

    settings = form | {"train_split": "train", "network": None, "steps": 2, "seed": 0}
    fit_screener(real, settings, results, 1, str(tmp_path / "screener"))
    assert load_classifier(tmp_path / "screener").config["classes"] == classes
    fit_screener(real, settings | {"flip": False, "shift": 0}, results, 1, str(tmp_path / "not mirrored"))
    assert (tmp_path / "not mirrored").read_bytes() != (tmp_path / "screener").read_bytes()


def test_the_screening_classifier_is_trained_on_large_images_that_do_not_fit_into_memory(tmp_path, pngs, monkeypatch):
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    monkeypatch.setattr("screening.fit_screener._IN_MEMORY", 0)
    block, *_ = make_dataset("folder", tmp_path / "data", pngs)
    results = tmp_path / "results" / "test"
    results.mkdir(parents=True)
    index_dataset(
        Dataset(source="folder", image_size=72, color="grey", **block).model_dump(), str(results / "real.parquet")
    )
    settings = {"image_size": 72, "color": "grey", "train_split": "train", "network": None, "steps": 2, "seed": 0}
    out = results / "screener" / "model.safetensors"
    fit_screener(str(results / "real.parquet"), settings, results, 1, str(out))
    assert load_classifier(out).config["size"] == 72
    assert [file.name for file in out.parent.iterdir()] == [out.name]
