"""A trained network with all that is needed to use it elsewhere: weights, a description, ONNX, and a model card."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import torch
from torch import nn

from synaug import __version__
from synaug.images.codec import CHANNELS
from synaug.manifests import read_manifest
from synaug.networks.classifier import Classifier
from synaug.runtime.errors import UserError
from synaug.runtime.files import new_folder
from synaug.tools.classify import find_model, load_network

# Figures of the card: metric, subset, and what they are called there.
_FIGURES = [
    ("accuracy", "all", "accuracy, all images"),
    ("accuracy", "balanced", "accuracy, mean over classes"),
    ("accuracy", "many", "accuracy, many-shot classes"),
    ("accuracy", "medium", "accuracy, medium-shot classes"),
    ("accuracy", "few", "accuracy, few-shot classes"),
    ("accuracy", "worst_class", "accuracy, worst class"),
    ("accuracy", "worst_group", "accuracy, worst group"),
    ("accuracy", "worst_cell", "accuracy, worst class in a group"),
    ("ece", "all", "calibration error"),
]
_TOLERANCE = 1e-4  # of a probability, between torch and ONNX


@dataclass(frozen=True)
class Trained:
    """Where a network lies in the results of the workflow: results/<experiment>/<stage>/<recipe>/<seed>."""

    weights: Path
    experiment: Path
    stage: str
    recipe: str
    seed: int


def find_trained(folder: Path) -> Trained:
    """Read recipe, stage and seed off the path of `folder`. Raises UserError if that is no network of an experiment."""
    # Not `resolve`: results/ may be a link to another disk.
    weights = Path(os.path.abspath(find_model(folder)))
    if len(weights.parents) < 5:
        raise _no_network(folder)
    seed, recipe, stage, experiment = weights.parents[:4]
    if stage.name not in ("train", "finetune") or not seed.name.isdecimal():
        raise _no_network(folder)
    return Trained(weights, experiment, stage.name, recipe.name, int(seed.name))


def _no_network(folder: Path) -> UserError:
    return UserError(f"{folder}: is no network of an experiment; name results/<experiment>/finetune/<recipe>/<seed>")


def package(trained: Trained, out: Path, onnx: bool) -> list[str]:
    """Write model.safetensors, model.json, README.md and, if `onnx`, model.onnx to the folder `out`: their names.

    Raises UserError if `out` is there already, if the experiment is not finished, or if the extra `onnx` is missing.
    """
    network = load_network(trained.weights).cpu().eval()
    text = model_card(trained, network, onnx)
    with new_folder(out) as folder:
        shutil.copyfile(trained.weights, folder / "model.safetensors")
        (folder / "README.md").write_text(text, encoding="utf-8")
        about = json.dumps(describe(trained, network, onnx), indent=2, ensure_ascii=False)
        (folder / "model.json").write_text(about + "\n", encoding="utf-8")
        if onnx:
            write_onnx(network, folder / "model.onnx")
        return sorted(path.name for path in folder.iterdir())


def describe(trained: Trained, network: Classifier, onnx: bool) -> dict:
    """What a program must know to use the weights; nothing that differs from run to run."""
    card = network.config
    about = {
        "classes": card["classes"],
        "image": {
            "size": card["size"],
            "color": {channels: color for color, channels in CHANNELS.items()}[card["channels"]],
            "channels": card["channels"],
            "range": [0, 255],
            "resize": "upright (EXIF), shorter side to `size` (bicubic, antialiased), the middle cut out",
        },
        "normalisation": {
            "mean": network.mean.flatten().tolist(),
            "std": network.std.flatten().tolist(),
            "of": "values 0 to 255, by channel; inside the network and inside model.onnx",
        },
        "backbone": card["backbone"],
        "width": card["width"],
        "head": card.get("head", "linear"),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "recipe": trained.recipe,
        "stage": trained.stage,
        "seed": trained.seed,
        "experiment": trained.experiment.name,
    }
    if onnx:
        shape = ["batch", card["channels"], card["size"], card["size"]]
        about["onnx"] = {
            "input": {"name": "images", "type": "uint8", "shape": shape},
            "output": {"name": "probabilities", "type": "float32", "shape": ["batch", len(card["classes"])]},
        }
    return about


class _Probabilities(nn.Module):
    def __init__(self, network: Classifier):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images).softmax(1)


def write_onnx(network: Classifier, path: Path) -> None:
    """Write `images` (uint8, N x C x H x W) to `probabilities` (N x classes) as ONNX, and compare both on noise.

    Raises UserError if the extra is not installed, or if the two do not say the same.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  what torch exports with
    except ImportError as error:
        raise UserError(f"ONNX needs {error.name}: pip install 'synaug[onnx]', or say --no-onnx") from None
    card, whole = network.config, _Probabilities(network).eval()
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, card["channels"], card["size"], card["size"]), generator=rng, dtype=torch.uint8)
    torch.onnx.export(
        whole,
        (images[:2],),
        path,
        input_names=["images"],
        output_names=["probabilities"],
        dynamic_shapes={"images": {0: "batch"}},
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images.numpy()})
    with torch.inference_mode():
        expected = whole(images).numpy()
    if not np.allclose(found, expected, rtol=0, atol=_TOLERANCE):
        most = float(np.abs(found - expected).max())
        raise UserError(f"{path.name}: differs from the network by {most:.2g} in a probability; say --no-onnx")


def model_card(trained: Trained, network: Classifier, onnx: bool) -> str:
    """README.md: what the network was trained on, how good it is, what it is for and not for."""
    summary = _of_recipe(trained, "summary")
    metrics = _of_recipe(trained, "metrics").query("seed == @trained.seed")
    total = summary[["real_images", "synthetic_images"]].iloc[0].tolist()
    balanced = read_manifest("balanced", trained.experiment / "balanced.parquet", ["image_id", "label", "source"])
    counts = balanced.groupby(["label", "source"])["image_id"].nunique().unstack(fill_value=0)
    names = network.config["classes"]
    counts = counts.reindex(index=range(len(names)), columns=["real", "synthetic"], fill_value=0)
    if not total[1]:
        counts["synthetic"] = 0
    # A recipe may train on a part of the real images; then only their number is known.
    known = counts.sum().tolist() == total
    accuracies = summary[summary["metric"] == "accuracy"].set_index("subset")["mean"]
    loader = jinja2.Environment(
        loader=jinja2.PackageLoader("synaug.tools", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    loader.filters["percent"] = lambda value: "-" if value is None or pd.isna(value) else f"{100 * value:.1f}"
    return loader.get_template("model_card.md.j2").render(
        trained=trained,
        experiment=trained.experiment.name,
        card=network.config,
        color={channels: color for color, channels in CHANNELS.items()}[network.config["channels"]],
        total=total,
        classes=[
            (name, *(counts.loc[label].tolist() if known else ("", "")), accuracies.get(f"class:{name}"))
            for label, name in enumerate(names)
        ],
        figures=_figures(summary, metrics),
        seeds=int(summary["seeds"].iloc[0]),
        generators=_generators(trained.experiment) if total[1] else [],
        onnx=onnx,
        version=__version__,
    )


def _of_recipe(trained: Trained, kind: str) -> pd.DataFrame:
    rows = read_manifest(kind, trained.experiment / f"{kind}.parquet")
    own = rows[(rows["recipe"] == trained.recipe) & (rows["stage"] == trained.stage)]
    if own.empty:
        raise UserError(
            f"{trained.experiment / kind}.parquet: has no figures of recipe {trained.recipe}, stage {trained.stage}; "
            "run the workflow again"
        )
    return own


def _figures(summary: pd.DataFrame, metrics: pd.DataFrame) -> list[tuple]:
    """Name; mean, low, high over seeds; value, low, high of this network over test images."""
    found = []
    for metric, subset, name in _FIGURES:
        one, own = (rows[(rows["metric"] == metric) & (rows["subset"] == subset)] for rows in (summary, metrics))
        if len(one) and len(own):
            found.append((name, *one.iloc[0][["mean", "low", "high"]], *own.iloc[0][["value", "low", "high"]]))
    return found


def _generators(experiment: Path) -> list[tuple[str, str, str]]:
    """Model, version and licence of the synthetic images that were planned."""
    columns = ["model", "model_version", "licence"]
    plan = read_manifest("plan", experiment / "plan.parquet", columns).drop_duplicates().sort_values(columns)
    return list(plan.itertuples(index=False, name=None))
