"""The files of a finished experiment with a few images, written by the scripts of the rules where that is quick."""

import base64
import io
import itertools
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from balance import build_balanced_manifest
from evaluation import choose_recipe, evaluate, summarise
from report import report
from screening import measure_quality, screen_synthetic
from synaug.config import Config
from synaug.imbalance import measure_imbalance
from synaug.manifests import read_manifest, write_manifest
from synaug.manifests.schemas import SCHEMAS

# Class name -> real training images. The names break pages that do not escape them.
CLASSES = {'it\'s "wide"': 30, "Stövel <b>": 8, "boot": 3}
LARGEST, TEST_IMAGES, OVERSAMPLE = (
    30,
    20,
    2,
)  # images of the largest class, test images per class, images per missing one
SETTINGS = {
    "experiment": "small_one",
    "dataset": {"source": "table", "path": "data", "image_size": 28, "color": "grey"},
    "generation": {"model": "model", "licence": "CC0", "note": "A <note>."},
    "screening": {"min_contrast": 20.0, "classifier": {"min_confidence": 0.45}},
    "imbalance": {"many_above": 20, "few_below": 5},
    "recipes": {
        "real": {"data": "real"},
        "synaug": {"data": "balanced", "stage1": {"mixup": {"alpha": 0.5}}, "stage2": {"steps": 2}},
    },
    "seeds": [0, 1],
}
# (stage, recipe) -> probability that a test image of each class is predicted correctly.
ACCURACIES = {
    ("train", "real"): (0.9, 0.5, 0.1),
    ("train", "synaug"): (0.9, 0.7, 0.6),
    ("finetune", "synaug"): (0.9, 0.8, 0.3),
}
NETWORKS = [(*network, seed) for network in ACCURACIES for seed in (0, 1)]  # stage, recipe, seed


class Inputs(dict):
    """Inputs as Snakemake passes them to a script: by name and by attribute."""

    __getattr__ = dict.__getitem__


class Experiment:
    """Files in `folder`. `groups`: every second image of a class has the group `red`, the others `green`.

    classes: name -> real training images. test_images: test images of each class.
    """

    def __init__(
        self, folder: Path, images: list[bytes], groups: bool = False, classes: dict[str, int] = CLASSES,
        test_images: list[int] | None = None,
    ):  # fmt: skip
        self.classes, self.test_images = classes, test_images or [TEST_IMAGES] * len(classes)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.images, self.groups = folder, itertools.cycle(images), groups
        self.settings = SETTINGS | {"dataset": SETTINGS["dataset"] | ({"group_columns": ["color"]} if groups else {})}
        self.config = Config.model_validate(self.settings)
        names = ["real", "imbalance", "plan", "scores", "synthetic", "balanced", "quality"]
        names += ["metrics", "differences", "summary"]
        self.paths = Inputs({name: str(folder / f"{name}.parquet") for name in names})
        real = self.write_real()
        self.write_synthetic()
        self.write_balanced()
        test = real[real["split"] == "test"].reset_index(drop=True)
        for number, network in enumerate(NETWORKS):
            self.write_network(network, test, np.random.default_rng(number))
        self.write_results()

    def network_files(self, name: str) -> list[str]:
        """The file `name` of every network."""
        return [str(self.folder / stage / recipe / str(seed) / name) for stage, recipe, seed in NETWORKS]

    def with_cells(self, rows: pd.DataFrame) -> pd.DataFrame:
        """`rows` (label, index) with class name and group."""
        names = list(self.classes)
        rows = rows.assign(label_name=[names[label] for label in rows["label"]])
        return rows.assign(group=np.where(rows["index"] % 2, "red", "green") if self.groups else "")

    def with_images(self, rows: pd.DataFrame, prefix: str, file: Path) -> pd.DataFrame:
        """`rows` with ids and columns about their images; image i is row i of the table `file`."""
        ids = [f"{prefix}{i:04}" for i in range(len(rows))]
        rows = rows.assign(image_id=ids, sha256="0" * 64, width=28, height=28)
        return rows.assign(path=str(file), row=np.arange(len(rows)), column="image")

    def write_real(self) -> pd.DataFrame:
        """The manifests `real` and `imbalance`; the usable rows of `real`."""
        cells = [
            {"split": split, "label": label, "index": index}
            for split, counts in (("train", self.classes.values()), ("test", self.test_images))
            for label, count in enumerate(counts)
            for index in range(count)
        ]
        file = self.folder / "pictures.parquet"
        real = self.with_images(self.with_cells(pd.DataFrame(cells)), "real", file).assign(usable=True)
        if self.groups:
            real["attributes"] = [[group] for group in real["group"]]
        pq.write_table(pa.table({"image": [next(self.images) for _ in range(len(real))]}), file)
        broken = {
            "image_id": "broken",
            "split": "train",
            "label": 0,
            "label_name": next(iter(self.classes)),
            "group": "",
        }
        broken |= {"usable": False, "reason": "is empty (0 bytes)", "sha256": "0" * 64, "path": "gone.png"}
        write_manifest("real", pd.concat([real.drop(columns="index"), pd.DataFrame([broken])]), self.paths.real)
        imbalance = measure_imbalance(read_manifest("real", self.paths.real), "train", self.config.imbalance)
        write_manifest("imbalance", imbalance, self.paths.imbalance)
        return real

    def write_synthetic(self) -> None:
        """The plan, its only shard, the scores, and the manifest `synthetic`. The last image is damaged."""
        cells = [
            {"label": label, "index": index}
            for label, count in enumerate(self.classes.values())
            for index in range(OVERSAMPLE * (LARGEST - count))
        ]
        rows = self.with_images(self.with_cells(pd.DataFrame(cells)), "made", self.folder / "shards" / "s.parquet")
        # A shard is sorted by class name and id.
        rows["row"] = rows[["label_name", "image_id"]].apply(tuple, axis=1).rank().astype(int) - 1
        images = [next(self.images) for _ in rows.index]
        images[-1] = b"no image"
        prompts = [f"a {'<i>fine</i>' if i % 3 else 'dark'} {name}" for i, name in enumerate(rows["label_name"])]
        settings = {"pipeline": "text-to-image", "model": "model", "model_version": "v", "adapters": "", "steps": 2}
        settings |= {"scheduler": "", "guidance": 2.0, "size": 32, "stored_size": 28, "color": "grey", "format": "png"}
        settings |= {"dtype": "float32", "negative_prompt": "", "sampler_version": 1, "licence": "CC0"}
        plan = rows.assign(**settings, prompt=prompts, seed=2**60 + np.arange(len(rows)), shard="s")
        write_columns("plan", plan, self.paths.plan)
        stored = [{"bytes": image, "path": None} for image in images]
        shard = plan.assign(image=stored, batch_size=4, device="cpu", threads=1, libraries="torch 2")
        write_columns("shard", shard, self.folder / "shards" / "s.parquet")
        rng = np.random.default_rng(0)
        scores = rows.assign(contrast=rng.uniform(10, 90, len(rows)))
        scores = scores.assign(classifier_confidence=rng.uniform(0.1, 1, len(rows)), fault=None)
        scores["classifier_prediction"] = rows["label_name"].where(scores["classifier_confidence"] > 0.3, "boot")
        scores.loc[scores.index[-1], ["contrast", "classifier_confidence", "fault"]] = [np.nan, np.nan, "is damaged"]
        scores.loc[scores.index[-1], "classifier_prediction"] = None
        write_manifest("scores", scores, self.paths.scores)
        screen_synthetic.main(self.paths.scores, self.config.screening.model_dump(), self.paths.synthetic)

    def write_balanced(self) -> None:
        """The manifests `balanced` and `quality`."""
        paths, balance = self.paths, self.config.balance.model_dump()
        build_balanced_manifest.main(paths.real, paths.synthetic, paths.imbalance, "train", balance, paths.balanced)
        measure_quality.main(paths.synthetic, paths.balanced, paths.imbalance, None, balance, paths.quality)

    def write_network(self, network: tuple[str, str, int], test: pd.DataFrame, rng: np.random.Generator) -> None:
        """Predictions and training history of a network."""
        stage, recipe, seed = network
        label, classes = test["label"].to_numpy(), len(self.classes)
        correct = rng.random(len(label)) < np.array(ACCURACIES[stage, recipe])[label % 3]
        predicted = np.where(correct, label, (label - 1) % classes)  # a boot is predicted as the medium class
        top = rng.uniform(0.4, 1, len(label))[:, None]
        probabilities = np.where(np.eye(classes)[predicted] == 1, top, (1 - top) / max(1, classes - 1)).astype(
            np.float32
        )
        rows = test.assign(predicted=predicted, probabilities=list(probabilities))
        folder = self.folder / stage / recipe / str(seed)
        write_columns("predictions", rows, folder / "predictions.parquet")
        steps = np.arange(1, 5)
        history = pd.DataFrame({"step": steps, "epoch": steps / 2, "loss": 2.0 / steps, "learning_rate": 0.1})
        write_manifest("history", history, folder / "history.parquet")

    def write_results(self) -> None:
        """The manifests `metrics`, `differences` and `summary`."""
        paths, stage1 = self.paths, {"real": "real", "synaug": "synaug"}
        evaluate.main(
            self.network_files("predictions.parquet"),
            NETWORKS,
            paths.imbalance,
            paths.real,
            "test",
            self.config.dataset.group_columns,
            probes=[],
            baselines=["real"],
            stage1=stage1,
            metrics=paths.metrics,
            differences=paths.differences,
        )
        images = {name: recipe.model_dump(include={"data", "fill"}) for name, recipe in self.config.recipes.items()}
        devices = {name: recipe.stage1.devices for name, recipe in self.config.recipes.items()}
        summarise.main(paths.metrics, paths.balanced, paths.plan, images, stage1, devices, paths.summary)

    def write_choice(self) -> None:
        """The manifest `chosen` (by the test images, for want of others), and a final network."""
        self.paths["chosen"] = str(self.folder / "chosen.parquet")
        files = self.network_files("predictions.parquet")
        images = {"real": {"data": "real", "fill": None}, "synaug": {"data": "balanced", "fill": None}}
        choose_recipe.main(
            files, NETWORKS, self.paths.real, "test", "balanced", images, self.paths.balanced, self.paths.chosen
        )
        final = self.folder / "final" / "0"
        final.mkdir(parents=True)
        self.paths["final"] = [shutil.copy(files[-1], final / "predictions.parquet")]

    def write_report(self) -> Path:
        """The page; its path."""
        names = ["fill", "gain", "classes", "confusion", "reliability", "history"]
        names += ["groups", "cells"] if self.groups else []
        page = self.folder / "report.html"
        predictions = dict(zip(NETWORKS, self.network_files("predictions.parquet"), strict=True))
        either = (("train", "real"), ("finetune", "synaug"))
        compared = [network for network in NETWORKS if "chosen" in self.paths or network[:2] in either]
        inputs = Inputs(self.paths) | {
            "histories": self.network_files("history.parquet"),
            "predictions": [predictions[network] for network in compared],
        }
        figures = {name: str(self.folder / "figures" / f"{name}.svg") for name in names}
        overview, config = str(self.folder / "overview.png"), self.config.model_dump()
        report.main(Inputs(inputs), NETWORKS, compared, config, str(page), overview, figures)
        return page


def write_columns(kind: str, rows: pd.DataFrame, path: Path | str) -> None:
    """Write the columns of `rows` that belong to this kind of manifest."""
    write_manifest(kind, rows[[name for name in SCHEMAS[kind].names if name in rows]], path)


def decoded(uri: str) -> Image.Image:
    """The image of a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
