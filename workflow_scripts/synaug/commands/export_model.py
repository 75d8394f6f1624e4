"""`synaug export-model`: a trained network in one folder with its weights, description, ONNX graph and model card."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pandas as pd
import typer

from synaug import __version__
from synaug.commands.cards import render_card
from synaug.commands.hub_upload import check_new_repository, folder_of_export, upload
from synaug.commands.predict import check_final_network, find_weights, load_network
from synaug.commands.terminal import progress
from synaug.images.codec import CHANNELS
from synaug.manifests import count_rows, read_manifest, with_fill
from synaug.runtime.errors import UserError
from synaug.runtime.files import new_folder

if TYPE_CHECKING:
    from synaug.networks.classifier import Classifier

# Rows of the model card: metric, subset and weighting in the manifests `summary` and `metrics`, and how the card names
# them.
_FIGURES = [
    ("accuracy", "all", "images", "accuracy, all images"),
    ("accuracy", "balanced", "classes", "accuracy, mean over classes"),
    ("accuracy", "many", "classes", "accuracy, many-shot classes"),
    ("accuracy", "medium", "classes", "accuracy, medium-shot classes"),
    ("accuracy", "few", "classes", "accuracy, few-shot classes"),
    ("accuracy", "worst_class", "classes", "accuracy, worst class"),
    ("accuracy", "worst_group", "groups", "accuracy, worst group"),
    ("accuracy", "worst_cell", "cells", "accuracy, worst class in a group"),
    ("ece", "all", "images", "calibration error"),
]
_TOLERANCE = 1e-4  # largest difference of a probability between torch and ONNX


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in the results of the workflow: results/<experiment>/<stage>/<recipe>/<seed>.

    final: results/<experiment>/final/<seed>, trained on the validation images too. Its recipe and stage were chosen.
    """

    weights: Path
    experiment: Path
    stage: str
    recipe: str
    seed: int
    final: bool = False


def find_network(folder: Path) -> TrainedNetwork:
    """The network in `folder`: results/<experiment>/<stage>/<recipe>/<seed>, or results/<experiment>[/final/<seed>].

    Raises UserError if it is no such folder, or as `check_final_network`.
    """
    # Not `resolve`: results/ may be a link to another disk.
    weights = Path(os.path.abspath(find_weights(folder)))
    chosen_file = weights.parents[2] / "chosen.parquet" if len(weights.parents) >= 4 else None
    if chosen_file and weights.parents[1].name == "final" and chosen_file.is_file():
        check_final_network(weights.parent)
        candidates = read_manifest("chosen", chosen_file)
        [chosen] = candidates[candidates["chosen"]].itertuples()
        seed = int(weights.parent.name)
        return TrainedNetwork(weights, chosen_file.parent, str(chosen.stage), str(chosen.recipe), seed, final=True)
    if len(weights.parents) >= 5:
        seed, recipe, stage, experiment = weights.parents[:4]
        if stage.name in ("train", "finetune") and seed.name.isdecimal():
            return TrainedNetwork(weights, experiment, stage.name, recipe.name, int(seed.name))
    raise UserError(
        f"{folder}: is no network of an experiment", advice="name results/<experiment>/finetune/<recipe>/<seed>"
    )


def export_network(trained: TrainedNetwork, out: Path, onnx: bool, repository: str | None = None) -> list[str]:
    """Write model.safetensors, model.json, README.md and, if `onnx`, model.onnx to the new folder `out`.

    A network that timm can build has the names of timm in model.safetensors, and a config.json for timm beside it.
    repository: on the hub, for the card. Returns the names of the files. Raises UserError if `out` exists and is not
    empty, if the experiment is not finished, or if the extra `onnx` is not installed.
    """
    from synaug.commands.timm_files import timm_network, write_timm

    network = load_network(trained.weights).cpu().eval()
    of_timm = timm_network(network)
    card = model_card(trained, network, onnx, timm=of_timm is not None, repository=repository)
    with new_folder(out) as folder:
        if of_timm is None:
            shutil.copyfile(trained.weights, folder / "model.safetensors")
        else:
            write_timm(of_timm, network, folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        description = json.dumps(describe(trained, network, onnx), indent=2, ensure_ascii=False)
        (folder / "model.json").write_text(description + "\n", encoding="utf-8")
        if onnx:
            write_onnx(network, folder / "model.onnx")
        return sorted(path.name for path in folder.iterdir())


def _color_of(network: "Classifier") -> str:
    return {channels: color for color, channels in CHANNELS.items()}[network.config["channels"]]


def describe(trained: TrainedNetwork, network: "Classifier", onnx: bool) -> dict:
    """The content of model.json: what a program must know to use the weights. The same for every export."""
    card = network.config
    description = {
        "classes": card["classes"],
        "image": {
            "size": card["size"],
            "color": _color_of(network),
            "channels": card["channels"],
            "range": [0, 255],
            "resize": "upright (EXIF), transparency on white, 16 bits scaled to 8, shorter side resized to `size` "
            "(bicubic, antialiased), centre crop",
        },
        "normalisation": {
            "mean": network.mean.flatten().tolist(),
            "std": network.std.flatten().tolist(),
            "of": "values 0 to 255, by channel; part of the network and of model.onnx",
        },
        "backbone": card["backbone"],
        "width": card["width"],
        "head": card.get("head", "linear"),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "recipe": trained.recipe,
        "stage": trained.stage,
        "seed": trained.seed,
        "trained_on_validation_images": trained.final,
        "experiment": trained.experiment.name,
    }
    if onnx:
        shape = ["batch", card["channels"], card["size"], card["size"]]
        description["onnx"] = {
            "input": {"name": "images", "type": "uint8", "shape": shape},
            "output": {"name": "probabilities", "type": "float32", "shape": ["batch", len(card["classes"])]},
        }
    return description


def write_onnx(network: "Classifier", path: Path) -> None:
    """Write the network as ONNX, and compare its output with the network's on random images.

    Input `images`: uint8, N x C x H x W. Output `probabilities`: float32, N x classes.
    Raises UserError if the extra `onnx` is not installed, or if the outputs differ.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  the exporter of torch needs it
    except ImportError as error:
        raise UserError(
            f"ONNX needs the package {error.name}", advice="pip install 'synaug[onnx]', or add --no-onnx"
        ) from None
    import torch

    card, with_softmax = network.config, torch.nn.Sequential(network, torch.nn.Softmax(dim=1)).eval()
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, card["channels"], card["size"], card["size"]), generator=rng, dtype=torch.uint8)
    torch.onnx.export(
        with_softmax,
        (images[:2],),
        path,
        input_names=["images"],
        output_names=["probabilities"],
        dynamic_shapes=({0: "batch"},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (of_onnx,) = session.run(None, {"images": images.numpy()})
    with torch.inference_mode():
        of_torch = with_softmax(images).numpy()
    if not np.allclose(of_onnx, of_torch, rtol=0, atol=_TOLERANCE):
        largest = float(np.abs(of_onnx - of_torch).max())
        raise UserError(
            f"{path.name}: its probabilities differ from the network's by up to {largest:.2g}", advice="add --no-onnx"
        )


def model_card(
    trained: TrainedNetwork, network: "Classifier", onnx: bool, timm: bool = False, repository: str | None = None
) -> str:
    """The README.md: training data, figures, use, intended use and limits of the network. timm: whether it loads it."""
    summary = _rows_of_recipe(trained, "summary")
    metrics = _rows_of_recipe(trained, "metrics").query("seed == @trained.seed")
    total = summary[["real_images", "synthetic_images"]].iloc[0].tolist()
    balanced = read_manifest("balanced", trained.experiment / "balanced.parquet", ["image_id", "label", "source"])
    counts = balanced.groupby(["label", "source"])["image_id"].nunique().unstack(fill_value=0)
    names = network.config["classes"]
    counts = counts.reindex(index=range(len(names)), columns=["real", "synthetic"], fill_value=0)
    if not total[1]:
        counts["synthetic"] = 0
    # A recipe may train on a subset of the real images; then only its size is known, not its classes.
    counts_known = counts.sum().tolist() == total
    accuracies = summary[summary["metric"] == "accuracy"].set_index("subset")["mean"]
    return render_card(
        "model_card.md.j2",
        trained=trained,
        experiment=trained.experiment.name,
        card=network.config,
        color=_color_of(network),
        total=total,
        classes=[
            (name, *(counts.loc[label].tolist() if counts_known else ("", "")), accuracies.get(f"class:{name}"))
            for label, name in enumerate(names)
        ],
        figures=_figures(summary, metrics),
        seeds=int(summary["seeds"].iloc[0]),
        generators=_generators(trained) if total[1] else [],
        split=_split_of_last_layer(trained),
        onnx=onnx,
        timm=timm,
        place=f"hf-hub:{repository}" if repository else "local-dir:.",
        version=__version__,
    )


def _rows_of_recipe(trained: TrainedNetwork, manifest: str) -> pd.DataFrame:
    """The rows of `manifest` with the recipe and stage of the network."""
    path = trained.experiment / f"{manifest}.parquet"
    rows = read_manifest(manifest, path)
    rows = rows[(rows["recipe"] == trained.recipe) & (rows["stage"] == trained.stage)]
    if rows.empty:
        raise UserError(
            f"{path}: has no figures of recipe {trained.recipe}, stage {trained.stage}",
            advice="run the workflow again",
        )
    return rows


def _figures(summary: pd.DataFrame, metrics: pd.DataFrame) -> list[tuple]:
    """Rows of the card: name; mean, low, high over seeds; value, low, high of this network over test images."""
    figures = []
    for *key, name in _FIGURES:
        over_seeds, of_network = (
            rows[(rows[["metric", "subset", "weighting"]] == key).all(axis=1)] for rows in (summary, metrics)
        )
        if len(over_seeds) and len(of_network):
            mean = over_seeds.iloc[0][["mean", "low", "high"]]
            value = of_network.iloc[0][["value", "low", "high"]]
            figures.append((name, *mean, *value))
    return figures


def _generators(trained: TrainedNetwork) -> list[tuple[str, str, str]]:
    """Model, version and licence of the planned images of the recipe; those of all fills if its fill is not known."""
    columns = ["model", "model_version", "licence"]
    plan = with_fill(count_rows("plan", trained.experiment / "plan.parquet", [*columns, "fill"]))
    if len(set(plan["fill"])) > 1 and (fill := _recipe_on_page(trained).get("fill")):
        plan = plan[plan["fill"] == fill["name"]]
    return list(plan[columns].drop_duplicates().sort_values(columns).itertuples(index=False, name=None))


def _split_of_last_layer(trained: TrainedNetwork) -> str | None:
    """The split that stage 2 was trained on, if the config names one; a final network is trained on two splits."""
    if trained.stage != "finetune" or trained.final:
        return None
    return (_recipe_on_page(trained).get("stage2") or {}).get("split")


def _recipe_on_page(trained: TrainedNetwork) -> dict:
    """The config of the recipe, which the results hold in the report alone; empty if it is not there."""
    page = trained.experiment / "report.html"
    if not page.exists():
        return {}
    from synaug.report.page import config_on_page  # imports matplotlib

    return (config_on_page(page) or {}).get("recipes", {}).get(trained.recipe, {})


def export_model(
    model: Annotated[Path, typer.Argument(help="results/<experiment>/<stage>/<recipe>/<seed>.")],
    out: Annotated[
        Path | None, typer.Argument(help="Folder to create.", show_default="with --hub: the name there")
    ] = None,
    onnx: Annotated[bool, typer.Option(help="Also write model.onnx; needs the extra `onnx`.")] = True,
    hub: Annotated[
        str | None, typer.Option(metavar="[OWNER/]NAME", help="Also upload it to the Hugging Face hub, as a new model.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --hub: everybody may read it.")] = False,
) -> None:
    """Write a trained network for use elsewhere.

    The folder holds the weights, a description of them, the network as ONNX, and a model card with its figures. timm
    loads the networks that are timm's.

    model.onnx takes pixel values as they are (uint8, 0 to 255) and returns probabilities. Its output is compared with
    the network's when it is written.

    With --hub the folder is also uploaded, to a new private model. That needs a token (`hf auth login`). results/mine
    stands for the network of the chosen recipe. `synaug export --hub` uploads the training set.

    \b
    Example:
      synaug export-model results/mine/finetune/synaug/0 my_classifier
      synaug export-model results/mine --hub my_classifier
    """
    out = folder_of_export(out, hub, public)
    trained = find_network(model)
    repository = check_new_repository(hub, "model") if hub else None
    with progress("exporting", None):
        names = export_network(trained, out, onnx, repository)
    print(f"{out}: {', '.join(names)}")
    if repository:
        print(upload(out, repository, "model", public))
