"""Two finished experiments, A and B, as `synaug compare` reads them, and their results, paired by seed and image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
import pandas as pd

from synaug.config import Block, Config
from synaug.evaluation.bootstrap import Resamples
from synaug.evaluation.differences import paired_difference
from synaug.evaluation.scorer import Scorer, read_scorer, read_test
from synaug.manifests import read_manifest
from synaug.report.comparison import Network, compared_networks
from synaug.report.page import config_on_page
from synaug.report.sections import ReportData, read_report_data
from synaug.report.tables import series_name
from synaug.runtime.errors import UserError

MANIFESTS = ("real", "imbalance", "plan", "synthetic", "balanced", "quality", "summary", "differences")


@dataclass(frozen=True)
class Experiment:
    """A finished experiment. networks: (recipe, stage) -> its seeds, in the order of the config.

    config: see `config_as_stored`. stored: as the report shows it, with the current names of keys. main: its main
    network, see `compared_networks`. data: of `read_report_data`, without predictions and histories. ids: what is
    counted -> the different ids of these images, or the different prompts.
    """

    folder: Path
    config: Config
    stored: dict[str, Any]
    networks: dict[Network, list[int]]
    main: Network
    data: ReportData
    ids: dict[str, pd.Index]

    def predictions(self, network: Network, seed: int) -> Path:
        """The manifest `predictions` of one of the networks."""
        recipe, stage = network
        return self.folder / stage / recipe / str(seed) / "predictions.parquet"


@dataclass(frozen=True)
class Pair:
    """A network of A, and the network of B that it is compared with; None: there is no such network.

    paired: of `differences.paired_difference`, B minus A; None: it cannot be computed.
    """

    networks: tuple[Network | None, Network | None]
    paired: pd.DataFrame | None = None

    @property
    def name(self) -> str:
        """The network; both if they are called differently."""
        return " and ".join(dict.fromkeys(series_name(*network) for network in self.networks if network))


class _Files(dict):
    """Paths by name and as attributes, as Snakemake gives them to `read_report_data`."""

    __getattr__ = dict.__getitem__


def read_experiment(folder: Path) -> Experiment:
    """The experiment in `folder`, wherever that is. Raises UserError if it holds no finished experiment."""
    stored = _read_config(folder)
    config = config_as_stored(stored)
    networks = _networks(folder, config)
    files = _Files({kind: str(folder / f"{kind}.parquet") for kind in MANIFESTS} | {"histories": [], "predictions": []})
    chosen = None
    if config.evaluation.choose_by:
        files["chosen"] = str(folder / "chosen.parquet")
        chosen = read_manifest("chosen", files["chosen"])
    data = read_report_data(files, [], [], config)
    main = compared_networks(config, chosen)[-1]
    return Experiment(folder, config, stored, networks, main, data, _ids(folder, config))


def _read_config(folder: Path) -> dict[str, Any]:
    """The config of the experiment, as its report shows it, with the current names of keys.

    Raises UserError if there is none, or if it lacks what the comparison needs.
    """
    page = folder / "report.html"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder", advice="name the results of an experiment, results/<experiment>")
    if (folder / "study.parquet").exists():
        raise UserError(f"{folder}: is a study", advice="name two of its variants, results/<study>-<variant>")
    if not (folder / "real.parquet").exists():
        raise UserError(f"{folder}: holds no experiment (there is no real.parquet)", advice="name results/<experiment>")
    if not page.exists():
        raise UserError(
            f"{folder}: is not finished (there is no report.html)", advice="run the workflow to its end first"
        )
    config = config_on_page(page)
    if config is None:
        raise UserError(f"{page}: shows no config", advice="delete it and run the workflow again")
    recipes = config.get("recipes")
    missing = [key for key in ("dataset", "generation", "recipes") if not isinstance(config.get(key), dict)]
    if isinstance(recipes, dict):
        usable = [name for name, recipe in recipes.items() if isinstance(recipe, dict) and "data" in recipe]
        missing += [f"recipes.{name}.data" for name in recipes if name not in usable]
    if missing:
        raise UserError(
            f"{page}: its config has no {', '.join(missing)}", advice="delete the page and run the workflow again"
        )
    return config


def config_as_stored(values: dict[str, Any], block: type[Block] = Config) -> Any:
    """`values` as a `block`, not checked: rules become stricter, and may refuse what an earlier version has run.

    A key that is missing has its default, if it has one. A key that is unknown is left out, unless the block takes any.
    """
    fields = {
        key: _as_stored(values[key], field.annotation) for key, field in block.model_fields.items() if key in values
    }
    if block.model_config.get("extra") == "allow":
        fields = values | fields
    return block.model_construct(**fields)


def _as_stored(value: Any, annotation: Any) -> Any:
    """`value`, of a key with this type, with its blocks as `config_as_stored`."""
    types = get_args(annotation) or (annotation,)
    if get_origin(annotation) is dict and isinstance(value, dict):
        return {name: _as_stored(item, types[1]) for name, item in value.items()}
    if get_origin(annotation) is list and isinstance(value, list):
        return [_as_stored(item, types[0]) for item in value]
    blocks = [type_ for type_ in types if isinstance(type_, type) and issubclass(type_, Block)]
    return config_as_stored(value, blocks[0]) if blocks and isinstance(value, dict) else value


def _networks(folder: Path, config: Config) -> dict[Network, list[int]]:
    path = folder / "metrics.parquet"
    metrics = read_manifest("metrics", path, ["recipe", "stage", "seed"]).drop_duplicates()
    seeds = {key: sorted(map(int, of)) for key, of in metrics.groupby(["recipe", "stage"], observed=True)["seed"]}
    if unknown := sorted({recipe for recipe, _ in seeds} - set(config.recipes)):
        raise UserError(
            f"{path}: has the recipe {unknown[0]}, but the config in report.html does not",
            advice="run the workflow to its end first",
        )
    order = [(recipe, stage) for recipe in config.recipes for stage in ("train", "finetune")]
    return {network: seeds[network] for network in order if network in seeds}


def _ids(folder: Path, config: Config) -> dict[str, pd.Index]:
    read = lambda kind, *columns: read_manifest(kind, folder / f"{kind}.parquet", columns)  # noqa: E731
    real = read("real", "image_id", "split", "usable").query("usable")
    plan, synthetic = read("plan", "image_id", "prompt"), read("synthetic", "image_id", "accepted")
    balanced, dataset = read("balanced", "image_id", "source"), config.dataset
    splits = {"training": dataset.train_split, "validation": dataset.validation_split, "test": dataset.test_split}
    ids = {f"real {use} images": real.loc[real["split"] == split, "image_id"] for use, split in splits.items() if split}
    ids |= {
        "planned synthetic images": plan["image_id"],
        "different prompts": plan["prompt"],
        "accepted synthetic images": synthetic.loc[synthetic["accepted"], "image_id"],
        "synthetic training images": balanced.loc[balanced["source"] == "synthetic", "image_id"],
    }
    return {what: pd.Index(values.astype(str).unique()) for what, values in ids.items()}


def check_classes(a: Experiment, b: Experiment) -> None:
    """Raise UserError if the experiments have other classes."""
    names = [set(experiment.data.classes["label_name"]) for experiment in (a, b)]
    only = [
        f"only {experiment.folder} has {', '.join(map(repr, own[:3]))}{' ...' if len(own) > 3 else ''}"
        for experiment, own in ((a, sorted(names[0] - names[1])), (b, sorted(names[1] - names[0])))
        if own
    ]
    if only:
        raise UserError(f"the classes differ: {', '.join(only)}", advice="compare experiments with the same classes")


def network_pairs(a: Experiment, b: Experiment) -> list[Pair]:
    """The main networks first, then networks that are called alike, then those that only one experiment has."""
    pairs = [(a.main, b.main)]
    pairs += [(network, network) for network in a.networks if network in b.networks]
    pairs += [(network, None) for network in a.networks if network not in b.networks and network != a.main]
    pairs += [(None, network) for network in b.networks if network not in a.networks and network != b.main]
    return [Pair(networks) for networks in dict.fromkeys(pairs)]


def paired(
    experiments: Sequence[Experiment], pairs: list[Pair], step: Callable[[int], None]
) -> tuple[list[Pair], list[str]]:
    """`pairs` with their paired differences where these can be computed, and sentences that say why others have none.

    step: is called with 1 for each network that was scored.
    """
    files = [
        experiment.predictions(network, seed)
        for experiment in experiments
        for network, seeds in experiment.networks.items()
        for seed in seeds
    ]
    if missing := [path for path in files if not path.exists()]:
        return pairs, [f"The results are not paired, since {missing[0]} is missing."]
    scorers = [_scorer(experiment) for experiment in experiments]
    if reason := why_not_paired(*(scorer.images for scorer in scorers)):
        return pairs, [reason]
    resamples = _common_resamples(*scorers)
    results, notes = [], []
    for pair in pairs:
        if None in pair.networks:
            results.append(pair)
            continue
        seeds_of = [experiment.networks[net] for experiment, net in zip(experiments, pair.networks, strict=True)]
        seeds = [seed for seed in seeds_of[0] if seed in seeds_of[1]]
        if not seeds:
            notes.append(f"The results of {pair.name} are not paired, since they have no seed in common.")
            results.append(pair)
            continue
        scores: list[dict[int, pd.DataFrame]] = []
        for experiment, network, scorer, counts in zip(experiments, pair.networks, scorers, resamples, strict=True):
            scores.append({})
            for seed in seeds:
                rows = read_test(str(experiment.predictions(network, seed)), experiment.config.dataset.test_split)
                scores[-1][seed] = scorer.score(rows, counts)
                step(1)
        of_a, of_b = scores
        common = of_a[seeds[0]].index.intersection(of_b[seeds[0]].index, sort=False)
        of_a, of_b = ({seed: table.loc[common] for seed, table in side.items()} for side in scores)
        results.append(Pair(pair.networks, paired_difference(of_b, of_a)))
    return results, notes


def _scorer(experiment: Experiment) -> Scorer:
    network, seeds = next(iter(experiment.networks.items()))
    dataset, folder = experiment.config.dataset, experiment.folder
    return read_scorer(
        str(experiment.predictions(network, seeds[0])),
        dataset.test_split,
        str(folder / "imbalance.parquet"),
        str(folder / "real.parquet"),
        dataset.group_columns,
    )


def why_not_paired(a: pd.DataFrame, b: pd.DataFrame) -> str | None:
    """Why results on the test images `a` and `b` (`Scorer.images`) are not paired, a sentence; None: they are."""
    class_a, class_b = (images.astype(str).set_index("image_id")["label_name"] for images in (a, b))
    both = class_a.index.intersection(class_b.index)
    if not len(both) == len(a) == len(b):
        return f"The results are not paired: of {len(a)} test images in A and {len(b)} in B, {len(both)} are the same."
    others = int((class_a[both] != class_b[both]).sum())
    return f"The results are not paired: {others} test images have another class in B." if others else None


def _common_resamples(a: Scorer, b: Scorer) -> tuple[Resamples, Resamples]:
    """The same resamples for both, within the strata of both; each with the images in its own order."""
    order = pd.Index(a.images["image_id"].astype(str)).get_indexer(b.images["image_id"].astype(str))
    strata = np.empty((2, len(order)), int)
    strata[0], strata[1, order] = a.strata, b.strata
    resamples = a.resample(np.unique(strata, axis=1, return_inverse=True)[1].ravel())
    return resamples, resamples.of(order)
