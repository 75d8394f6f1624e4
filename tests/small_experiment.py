"""The files of a finished experiment on a few real images, made by the rules' own functions where that is quick."""

import io
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from evaluation import evaluate, summarise
from report import report
from screening import measure_quality, screen_synthetic
from synaug.config import Config
from synaug.imbalance import measure_imbalance
from synaug.manifests import read_manifest, write_manifest

# Names that break what is not quoted; "boot" has no image too many.
CLASSES = {'it\'s "wide"': 30, "Stövel <b>": 8, "boot": 3}
WANTED, TESTED, REPEATED = 30, 20, 2
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
NETWORKS = [f"{stage}/{seed}" for stage in ("train/real", "train/synaug", "finetune/synaug") for seed in (0, 1)]
RIGHT = {"train/real": (0.9, 0.5, 0.1), "train/synaug": (0.9, 0.7, 0.6), "finetune/synaug": (0.9, 0.8, 0.3)}


class Inputs(dict):
    """As Snakemake hands them to a script: by name and by attribute."""

    __getattr__ = dict.__getitem__


class Experiment:
    """Files below `folder`; `groups`: every second image of a class is of the group `red`, the others `green`."""

    def __init__(self, folder: Path, images: list[bytes], groups: bool = False):
        self.folder, self.images, self.groups = folder, itertools.cycle(images), groups
        self.settings = SETTINGS | {"dataset": SETTINGS["dataset"] | ({"group_columns": ["color"]} if groups else {})}
        self.config = Config.model_validate(self.settings)
        names = ["real", "imbalance", "plan", "scores", "synthetic", "balanced", "quality"]
        names += ["summary", "differences", "metrics"]
        self.paths = Inputs({name: str(folder / f"{name}.parquet") for name in names})
        self.make_images()
        for network in NETWORKS:
            self.make_network(network)
        self.measure()

    def cells(self, rows: pd.DataFrame) -> pd.DataFrame:
        names = list(CLASSES)
        rows = rows.assign(label_name=[names[label] for label in rows["label"]])
        if not self.groups:
            return rows.assign(group="")
        return rows.assign(group=np.where(rows["index"] % 2, "red", "green"))

    def make_images(self) -> None:
        splits = [("train", list(CLASSES.values())), ("test", [TESTED] * len(CLASSES))]
        real = self.cells(
            pd.DataFrame(
                [
                    {"split": split, "label": label, "index": index}
                    for split, counts in splits
                    for label, count in enumerate(counts)
                    for index in range(count)
                ]
            )
        )
        real = self.stored(real, "real", "pictures.parquet").assign(usable=True)
        if self.groups:
            real["attributes"] = [[group] for group in real["group"]]
        broken = {
            "image_id": "broken",
            "split": "train",
            "label": 0,
            "label_name": next(iter(CLASSES)),
            "usable": False,
        }
        broken |= {"reason": "is empty (0 bytes)", "sha256": "0" * 64, "path": "gone.png", "group": ""}
        write_manifest("real", pd.concat([real.drop(columns="index"), pd.DataFrame([broken])]), self.paths.real)
        imbalance = measure_imbalance(read_manifest("real", self.paths.real), "train", self.config.imbalance)
        write_manifest("imbalance", imbalance, self.paths.imbalance)
        made = [
            {"label": label, "index": index}
            for label, count in enumerate(CLASSES.values())
            for index in range(REPEATED * (WANTED - count))
        ]
        made = self.stored(self.cells(pd.DataFrame(made)), "made", "shards/s.parquet")
        about = {"pipeline": "text-to-image", "model": "model", "model_version": "v", "adapters": "", "scheduler": ""}
        about |= {"steps": 2, "guidance": 2.0, "size": 32, "stored_size": 28, "color": "grey", "format": "png"}
        about |= {"dtype": "float32", "negative_prompt": "", "sampler_version": 1, "licence": "CC0"}
        prompts = [f"a {'<i>fine</i>' if i % 3 else 'dark'} {name}" for i, name in enumerate(made["label_name"])]
        rows = made.assign(**about, prompt=prompts, seed=2**60 + np.arange(len(made)), shard="s")
        columns = pq_columns("plan")
        write_manifest("plan", rows[[name for name in columns if name in rows]], self.paths.plan)
        columns = pq_columns("shard")
        shard = rows.assign(batch_size=4, device="cpu", threads=1, libraries="torch 2")
        write_manifest(
            "shard", shard[[name for name in columns if name in shard]], self.folder / "shards" / "s.parquet"
        )
        rng = np.random.default_rng(0)
        scores = made.drop(columns="image").assign(contrast=rng.uniform(10, 90, len(made)))
        scores = scores.assign(classifier_confidence=rng.uniform(0.1, 1, len(made)))
        damaged = scores.index[-1]
        scores.loc[damaged, ["contrast", "classifier_confidence"]] = np.nan
        scores["fault"] = None
        scores.loc[damaged, "fault"] = "is damaged"
        write_manifest("scores", scores, self.paths.scores)
        screening = self.config.screening.model_dump()
        screen_synthetic.main(self.paths.scores, screening, self.paths.synthetic)
        synthetic = read_manifest("synthetic", self.paths.synthetic)
        usable = real[real["split"] == "train"].assign(source="real")
        kept = synthetic[synthetic["accepted"]].assign(source="synthetic")
        balanced = pd.concat([usable, kept]).assign(weight=1.0)
        columns = pq_columns("balanced")
        write_manifest("balanced", balanced[[name for name in columns if name in balanced]], self.paths.balanced)

    def stored(self, rows: pd.DataFrame, name: str, file: str) -> pd.DataFrame:
        """`rows` with an image each, in a table; the last one of a shard is none."""
        images = [next(self.images) for _ in range(len(rows))]
        if name == "made":
            images[-1] = b"no image"
        rows = rows.assign(image_id=[f"{name}{i:04}" for i in range(len(rows))], sha256="0" * 64, width=28, height=28)
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "real":
            pq.write_table(pa.table({"image": images}), path)
            order = np.arange(len(rows))
        else:  # the manifest `shard` is sorted by class name and id
            order = rows[["label_name", "image_id"]].apply(tuple, axis=1).rank().astype(int).to_numpy() - 1
            rows = rows.assign(image=[{"bytes": one, "path": None} for one in images])
        return rows.assign(path=str(path), row=order, column="image")

    def make_network(self, network: str) -> None:
        rng = np.random.default_rng(NETWORKS.index(network))
        real = read_manifest("real", self.paths.real, ["image_id", "split", "label", "label_name", "group"])
        test = real[real["split"] == "test"].reset_index(drop=True)
        label = test["label"].to_numpy()
        right = rng.random(len(label)) < np.array(RIGHT[network.rpartition("/")[0]])[label]
        predicted = np.where(right, label, (label + 2) % 3)  # boots are taken for the middle class
        top = rng.uniform(0.4, 1, len(label))[:, None]
        probabilities = np.where(np.eye(3)[predicted] == 1, top, (1 - top) / 2).astype(np.float32)
        rows = test.assign(predicted=predicted, probabilities=list(probabilities))
        write_manifest("predictions", rows, self.folder / network / "predictions.parquet")
        steps = np.arange(1, 5)
        history = pd.DataFrame({"step": steps, "epoch": steps / 2, "loss": 2.0 / steps, "learning_rate": 0.1})
        write_manifest("history", history, self.folder / network / "history.parquet")

    def measure(self) -> None:
        paths, stage1 = self.paths, {"real": "real", "synaug": "synaug"}
        columns = self.config.dataset.group_columns
        predictions = [str(self.folder / network / "predictions.parquet") for network in NETWORKS]
        evaluate.main(
            predictions, paths.imbalance, paths.real, "test", columns, [], ["real"], stage1, paths.metrics,
            paths.differences,
        )  # fmt: skip
        data = {name: recipe.data for name, recipe in self.config.recipes.items()}
        summarise.main(paths.metrics, paths.balanced, paths.plan, data, stage1, paths.summary)
        balance = self.config.balance.model_dump(exclude={"oversample", "shortfall"})
        measure_quality.main(paths.synthetic, paths.balanced, paths.imbalance, None, balance, paths.quality)

    def write_report(self) -> Path:
        names = ["fill", "gain", "classes", "confusion", "reliability", "history"]
        names += ["groups", "cells"] if self.groups else []
        page = self.folder / "report.html"
        inputs = Inputs(self.paths) | {
            "histories": [str(self.folder / network / "history.parquet") for network in NETWORKS],
            "predictions": [str(self.folder / network / "predictions.parquet") for network in NETWORKS],
        }
        figures = {name: str(self.folder / "figures" / f"{name}.svg") for name in names}
        report.main(Inputs(inputs), self.config.model_dump(), str(page), str(self.folder / "overview.png"), figures)
        return page


def pq_columns(kind: str) -> list[str]:
    from synaug.manifests.schemas import SCHEMAS

    return SCHEMAS[kind].names


def decoded(uri: str) -> Image.Image:
    """The image of a data URI."""
    import base64

    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
