"""The evidence: tune every method equally on validation images, then measure the chosen settings on the test images.

    python benchmarks/evidence.py FOLDER [--cores 2] [--only classes_100 classes_100_internal ...]
    python benchmarks/evidence.py --quick

FOLDER holds the four official files of Fashion-MNIST (see resources/fashion_mnist_lt/README.md); the data sets and the
outside generator for the groups are made first, if they are missing. `classes_<factor>` is Fashion-MNIST-LT with this
imbalance factor, `groups` is coloured Fashion-MNIST, both with a generator that was trained on other images.
`<name>_internal` is the same with a generator that is trained on the training images alone, one per seed. The first two
steps are for classes_100 and for the groups; the factors 50 and 10 and the internal parts use the settings that were
chosen there, of all methods. For each part:

1. Tuning. Every method has a learning rate and one or two other hyperparameters with three values each, and nine
   trials: all combinations of two, an orthogonal array of three (Taguchi's L9). Every method is tuned with and without
   Mixup (GroupDRO excludes it). Mixup's alpha is 0.2 everywhere. All trials have the same seed. Their accuracies
   are those on validation images; the config of the tuning does not name the test images.
2. If the best trial has the smallest or largest value of a hyperparameter, the next value in the same ratio is tried
   too, at most twice. What is still at an end is listed with the result.
3. Evidence. The chosen settings are trained with five seeds, of internal parts with three. Seed k has its own block of
   synthetic images (`seed: k`). Internal parts have the methods that fill all classes or groups, and those that all are
   compared with.
4. Tables. docs/results/evidence/ gets, for each of them, the configs of both studies, all trials, the chosen settings,
   the results and the paired differences as CSV, and the results as Markdown.

Choosing: `balanced` is the mean accuracy over classes, and needs no groups; `worst_cell` is the accuracy in the worst
class and group. Groups are tuned by both, and each method has one row for each.

Snakemake continues an interrupted run: call the program again. --quick runs a few methods for a few steps on small data
(the groups, or what --only names), to see that it works; its figures mean nothing. The last line is one JSON object.
"""

import argparse
import itertools
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from hardware import measured_on
from synaug.config import Stage1
from synaug.evaluation.intervals import mean_interval
from synaug.manifests import read_manifest

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("Snakefile", "rules", "workflow_scripts", "profiles", "envs", "resources", "config.yaml")

TUNING_SEEDS, SEEDS, INTERNAL_SEEDS = (0,), (0, 1, 2, 3, 4), (0, 1, 2)
WIDENINGS = 2
ALPHA = 0.2
OWN_GENERATOR = "own_generator"  # the variant of internal parts, in place of `full`


@dataclass(frozen=True)
class Axis:
    """A hyperparameter. key: dotted, in a recipe. values: ascending. highest: the largest value that the key allows."""

    key: str
    values: tuple[float, ...]
    highest: float = math.inf

    def next_to(self, value: float) -> float | None:
        """If `value` is at an end, the next value in the ratio of the last two; None inside, or beyond `highest`."""
        if len(self.values) < 2 or value not in (self.values[0], self.values[-1]):
            return None
        neighbour = self.values[1] if value == self.values[0] else self.values[-2]
        wider = float(f"{value * value / neighbour:.3g}")
        return wider if wider <= self.highest else None

    def with_value(self, value: float) -> "Axis":
        """This axis with one more value."""
        return replace(self, values=tuple(sorted({*self.values, value})))


LEARNING_RATE = Axis("stage1.learning_rate", (0.05, 0.1, 0.2))
WEIGHT_DECAY = Axis(
    "stage1.weight_decay", (0.000125, 0.0005, 0.002)
)  # of methods without a hyperparameter of their own
HEAD_RATE = Axis("stage2.learning_rate", (0.0003, 0.001, 0.003))
FRESH_HEAD_RATE = Axis("stage2.learning_rate", (0.03, 0.1, 0.3))
SYNTHETIC_FIRST = Axis("stage1.synthetic_first", (0.343, 0.49, 0.7), highest=0.95)


@dataclass(frozen=True)
class Method:
    """A way to train. fill: the variant of the synthetic images. axes: two or three hyperparameters of three values."""

    name: str
    axes: tuple[Axis, ...] = (LEARNING_RATE, WEIGHT_DECAY)
    data: str = "real"
    fill: str = "full"
    stage1: dict[str, Any] = field(default_factory=dict)
    stage2: dict[str, Any] | None = None

    @property
    def points(self) -> list[tuple[float, ...]]:
        """The trials before any widening, as values of the axes."""
        values = [axis.values for axis in self.axes]
        if len(values) < 3:
            return list(itertools.product(*values))
        # L9: every pair of values of two axes occurs once.
        return [(values[0][i], values[1][j], values[2][(i + j) % 3]) for i in range(3) for j in range(3)]

    def recipe(self, point: tuple[float, ...]) -> dict[str, Any]:
        """The recipe with these values of the axes."""
        recipe: dict[str, Any] = {"data": self.data, "stage1": dict(self.stage1)}
        if self.stage2 is not None:
            recipe["stage2"] = dict(self.stage2)
        for axis, value in zip(self.axes, point, strict=True):
            *blocks, key = axis.key.split(".")
            block = recipe
            for name in blocks:
                block[name] = dict(block[name])
                block = block[name]
            block[key] = value
        return recipe


def recipe_name(method: Method, point: tuple[float, ...]) -> str:
    """<method>-<value>x<value>: recipes that differ only after the hyphen are settings of one method."""
    return f"{method.name}-{'x'.join(f'{value:g}' for value in point)}"


def with_mixup(methods: Iterable[Method]) -> list[Method]:
    """Every method twice: as it is, and with Mixup with random partners."""
    mixup = {"mixup": {"alpha": ALPHA, "pairing": "random"}}
    return [
        changed
        for method in methods
        for changed in (method, replace(method, name=f"{method.name}_mixup", stage1=method.stage1 | mixup))
    ]


def own_axis(key: str, *values: float, highest: float = math.inf) -> tuple[Axis, Axis]:
    """The learning rate and one hyperparameter of the method."""
    return LEARNING_RATE, Axis(key, values, highest)


_PAPER_MIXUP = {"mixup": {"alpha": ALPHA, "pairing": "real_synthetic"}}
_RESAMPLED_HEAD = {"images_per_class": "all", "sampling": "class_balanced", "steps": 100}
_BALANCED_SOFTMAX = {"loss": {"name": "balanced_softmax"}}
_EFFECTIVE = {"class_weights": "effective"}
_HEAD = (LEARNING_RATE, HEAD_RATE)
_FRESH_HEAD = (LEARNING_RATE, FRESH_HEAD_RATE)

CLASS_METHODS = [
    *with_mixup(
        [
            Method("cross_entropy"),
            Method("resampled", stage1={"sampling": "class_balanced"}),
            Method("resampled_square_root", stage1={"sampling": "square_root"}),
            Method("reweighted_inverse", stage1={"class_weights": "inverse"}),
            Method(
                "reweighted_effective_deferred",
                own_axis("stage1.deferred", 0.5, 0.67, 0.9, highest=0.95),
                stage1=_EFFECTIVE,
            ),
            Method("focal", own_axis("stage1.loss.gamma", 0.5, 1.0, 2.0), stage1={"loss": {"name": "focal"}}),
            Method("balanced_softmax", stage1=_BALANCED_SOFTMAX),
            Method(
                "ldam_drw",
                own_axis("stage1.loss.margin", 0.2, 0.4, 0.8),
                stage1=_EFFECTIVE | {"head": "cosine", "loss": {"name": "ldam"}, "deferred": 0.8},
            ),
            Method(
                "weight_balancing",
                (
                    LEARNING_RATE,
                    Axis("stage1.weight_decay", (0.001, 0.002, 0.004)),
                    Axis("stage2.learning_rate", (0.003, 0.01, 0.03)),
                ),
                stage2=_EFFECTIVE | {"images_per_class": "all", "weight_decay": 0.1, "max_norm": 1.0},
            ),
            Method("logit_adjustment", own_axis("stage2.tau", 0.5, 1.0, 2.0), stage2={"method": "logit_adjustment"}),
            Method("crt", _FRESH_HEAD, stage2=_RESAMPLED_HEAD | {"start": "fresh"}),
            Method("tau_norm", own_axis("stage2.tau", 0.75, 1.5, 3.0), stage2={"method": "tau_norm"}),
            Method("lws", _FRESH_HEAD, stage2=_RESAMPLED_HEAD | {"method": "scale"}),
            Method("filled", data="balanced"),
            Method("filled_balanced_softmax", data="balanced", stage1=_BALANCED_SOFTMAX),
            Method("quarter_filled", data="balanced", fill="quarter"),
            Method("filtered_balanced_softmax", data="balanced", fill="filtered", stage1=_BALANCED_SOFTMAX),
            Method(
                "synthetic_first_balanced_softmax",
                (LEARNING_RATE, SYNTHETIC_FIRST),
                data="balanced",
                stage1=_BALANCED_SOFTMAX,
            ),
            Method("filled_fine_tuned", _HEAD, data="balanced", stage2={}),  # its Mixup: synaug with random partners
        ]
    ),
    Method("synaug", _HEAD, data="balanced", stage1=_PAPER_MIXUP, stage2={}),
]

GROUP_METHODS = [
    *with_mixup(
        [
            Method("cross_entropy"),
            Method("resampled", stage1={"sampling": "group_balanced"}),
            Method("subg", data="subsampled"),
            Method("jtt", own_axis("stage1.jtt.weight", 2.0, 6.0, 18.0), stage1={"jtt": {"steps": 150}}),
            Method("dfr_training", own_axis("stage2.inverse_l1", 0.1, 1.0, 10.0), stage2={"method": "dfr"}),
            Method(
                "dfr_validation",
                own_axis("stage2.inverse_l1", 0.1, 1.0, 10.0),
                stage2={"method": "dfr", "split": "reweight"},
            ),
            Method("filled", data="balanced"),
            Method("filled_fine_tuned", _HEAD, data="balanced", stage2={}),
            Method(
                "synthetic_first",
                (LEARNING_RATE, SYNTHETIC_FIRST),
                data="balanced",
                fill="even",
                stage1={"sampling": "group_balanced"},
            ),
        ]
    ),
    Method("group_dro", own_axis("stage1.group_dro", 0.001, 0.01, 0.1), stage1={"sampling": "group_balanced"}),
    Method("synaug", _HEAD, data="balanced", stage1=_PAPER_MIXUP, stage2={}),
]

# Name of a fill -> what differs from the config.
CLASS_FILLS: dict[str, dict[str, Any]] = {
    "full": {},
    "quarter": {"balance": {"amount": 0.25}},
    # At most as many synthetic as real images, of those that a classifier of real images reads as the class asked for.
    "filtered": {
        "balance": {"max_synthetic_per_real": 1.0, "oversample": 2.0},
        "screening": {"classifier": {"must_agree": True}},
    },
}
# Even: with the real images, 950 of every cell, which has 25 or 475 real ones (From Fake to Real).
GROUP_FILLS: dict[str, dict[str, Any]] = {"full": {}, "even": {"balance": {"strategy": "fixed", "target": 950}}}
FILL_WORDS = {
    "full": "all classes are filled to the size of the largest, or real images alone",
    "quarter": "a quarter of the synthetic images",
    "filtered": "at most as many synthetic as real images, of those that a classifier recognises",
    "even": "equally many synthetic images of every class in every group, used before the real ones",
    OWN_GENERATOR: "as `full`, with generators trained on the training images alone",
}
CRITERIA = {"balanced": ("balanced", "classes"), "worst_cell": ("worst_cell", "cells")}
RESULTS = {  # columns of the results: metric, subset, weighting
    "all classes": ("accuracy", "balanced", "classes"),
    "many": ("accuracy", "many", "classes"),
    "medium": ("accuracy", "medium", "classes"),
    "few": ("accuracy", "few", "classes"),
    "worst class": ("accuracy", "worst_class", "classes"),
    "worst cell": ("accuracy", "worst_cell", "cells"),
    "equalized odds, difference": ("equalized_odds_difference", "groups:color", "groups"),
    "demographic parity, difference": ("demographic_parity_difference", "groups:color", "groups"),
}


@dataclass(frozen=True)
class Part:
    """One data set of the evidence.

    base: config without recipes, seeds and study. tuning, test: what differs from it in the two studies. generator: the
    block `generator` of an internal part, else None. criteria: how to choose. settings_of: the part whose settings it
    uses, which has to be run before; None: it is tuned itself.
    """

    name: str
    base: dict[str, Any]
    tuning: dict[str, Any]
    test: dict[str, Any]
    methods: list[Method]
    fills: dict[str, dict[str, Any]]
    generator: dict[str, Any] | None
    criteria: tuple[str, ...]
    settings_of: str | None = None
    tuning_seeds: tuple[int, ...] = TUNING_SEEDS
    seeds: tuple[int, ...] = SEEDS
    widenings: int = WIDENINGS


@dataclass
class Trial:
    """A setting of a method. number: of the tuning pass that added it, from 1."""

    method: Method
    point: tuple[float, ...]
    number: int

    @property
    def recipe(self) -> str:
        """Name of its recipe."""
        return recipe_name(self.method, self.point)


def experiment_config(name: str) -> dict[str, Any]:
    """The parsed experiments/<name>.yaml."""
    return yaml.safe_load((ROOT / "experiments" / f"{name}.yaml").read_text())


def merge(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`config` with `changes`, block by block."""
    merged = dict(config)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def parts() -> list[Part]:
    """All data sets of the evidence."""
    keys = ("dataset", "prompts", "generation", "training")
    config = experiment_config("fashion_mnist_lt_evidence")
    validation = {"dataset": {"path": "build/study/validation"}}
    # Smaller factors keep the tail and reduce the head, because the embedded generator has seen all other images.
    cuts = {
        100: {},
        50: {"imbalance_factor": 50, "largest_class": 250},
        10: {"imbalance_factor": 10, "largest_class": 50},
    }
    classes = [
        Part(
            f"classes_{factor}",
            merge({key: config[key] for key in keys}, {"dataset": cut}),
            validation,
            {},
            CLASS_METHODS,
            CLASS_FILLS,
            None,
            ("balanced",),
            None if factor == 100 else "classes_100",
        )
        for factor, cut in cuts.items()
    ]
    config = experiment_config("fashion_mnist_colored_evidence")
    # No study names the split `validation` as validation_split: tuning tests on it, the evidence does not read it.
    # `reweight` is for DFR on held-out images.
    base = merge(
        {key: config[key] for key in keys},
        {"dataset": {"path": "build/colored/evidence", "validation_split": "reweight"}},
    )
    groups = Part(
        "groups",
        base,
        {"dataset": {"test_split": "validation"}},
        {},
        GROUP_METHODS,
        GROUP_FILLS,
        None,
        ("balanced", "worst_cell"),
    )
    return [
        *classes,
        internal(classes[0], experiment_config("fashion_mnist_lt_internal")["generator"]),
        groups,
        internal(groups, experiment_config("fashion_mnist_colored")["generator"]),
    ]


def internal(part: Part, generator: dict[str, Any]) -> Part:
    """The part with the settings of `part` and generators of its own."""
    fills = {"full": part.fills["full"]}
    name = f"{part.name}_internal"
    return replace(part, name=name, fills=fills, generator=generator, settings_of=part.name, seeds=INTERNAL_SEEDS)


def recipes_of(trials: Iterable[Trial], training: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Recipe name -> recipe. Recipes with equal stages 1 share the networks, by `stage1_of`."""
    recipes: dict[str, dict[str, Any]] = {}
    owners: dict[str, str] = {}  # data and complete stage 1 -> the recipe that trains it
    # Recipes without stage 2 first, so that stage 1 is trained by the method that consists of it.
    for trial in sorted(trials, key=lambda trial: trial.method.stage2 is not None):
        recipe = trial.method.recipe(trial.point)
        stage1 = Stage1.model_validate(training | recipe["stage1"]).model_dump_json()
        owner = owners.setdefault(f"{recipe['data']} {stage1}", trial.recipe)
        if owner != trial.recipe:
            recipe = {"stage1_of": owner, "stage2": recipe["stage2"]}
        recipes[trial.recipe] = recipe
    return recipes


def by_fill(trials: Iterable[Trial], fills: Iterable[str]) -> dict[str, list[Trial]]:
    """Fill -> its trials, without fills that have none."""
    groups = {fill: [trial for trial in trials if trial.method.fill == fill] for fill in fills}
    return {fill: members for fill, members in groups.items() if members}


def tuning_config(part: Part, trials: list[Trial]) -> dict[str, Any]:
    """The study of all trials: a variant per fill."""
    config = merge(part.base, part.tuning)
    recipes, study = {}, {}
    for fill, members in by_fill(trials, part.fills).items():
        of_fill = recipes_of(members, config["training"])
        recipes |= of_fill
        study[fill] = part.fills[fill] | {"recipes": list(of_fill)}
    name = f"evidence_tuning_{part.name}"
    return {"experiment": name, **config, "recipes": recipes, "seeds": list(part.tuning_seeds), "study": study}


def evidence_config(part: Part, chosen: list[Trial]) -> dict[str, Any]:
    """The study of the chosen settings: a replicate per fill and seed, in an internal part with a generator each."""
    config, name = merge(part.base, part.test), f"evidence_{part.name}"
    recipes, study = {}, {}
    for fill, members in by_fill(chosen, part.fills).items():
        of_fill = recipes_of(members, config["training"])
        recipes |= of_fill
        for seed in part.seeds:
            variant = f"{OWN_GENERATOR if part.generator else fill}_seed{seed}"
            study[variant] = part.fills[fill] | {"seed": seed, "seeds": [seed], "recipes": list(of_fill)}
            if part.generator:
                home = f"results/{name}-{variant}"
                study[variant] |= {
                    "generator": part.generator | {"images": f"{home}/real.parquet", "output": f"{home}/generator"},
                    "generation": {
                        "model": f"{home}/generator",
                        "licence": "",
                        "note": "The generator was trained on the training images of this experiment alone.",
                    },
                }
    return {"experiment": name, **config, "recipes": recipes, "seeds": list(part.seeds), "study": study}


def run_study(folder: Path, config: dict[str, Any], file: Path, cores: int) -> Path:
    """Write `config` to `file` and run the study in the checkout `folder`. Returns the folder of its results."""
    file.parent.mkdir(parents=True, exist_ok=True)
    command = " ".join(["snakemake", "--cores", "all", "--configfile", file.name])
    text = yaml.safe_dump(config, sort_keys=False, width=118)
    file.write_text(f"# Written by benchmarks/evidence.py. To run it alone:  {command}\n{text}")
    snakemake(folder, cores, "summarise_study", "--configfile", str(file))
    return folder / "results" / config["experiment"]


def snakemake(folder: Path, cores: int, *arguments: str) -> None:
    """Run the workflow in the checkout `folder`, or exit."""
    # The program's last line is its result, so the workflow writes to the error stream.
    run([sys.executable, "-m", "snakemake", "--cores", str(cores), *arguments], folder)


def run(command: list[str], folder: Path) -> None:
    """Run `command` in `folder`, or exit."""
    status = subprocess.run(command, cwd=folder, stdout=sys.stderr).returncode
    if status:
        sys.exit(f"{' '.join(command)}: exit status {status}")


def last_stages(study: pd.DataFrame) -> pd.DataFrame:
    """Rows of the manifest `study` for the last stage of every recipe."""
    fine_tuned = study.loc[study["stage"] == "finetune", "recipe"].unique()
    return study[(study["stage"] == "finetune") | ~study["recipe"].isin(fine_tuned)]


def validation_accuracies(results: Path) -> pd.DataFrame:
    """Recipe x criterion: means over seeds, from the study of a tuning, whose test images are validation images."""
    study = last_stages(read_manifest("study", results / "study.parquet"))
    study = study[study["metric"] == "accuracy"].set_index(["subset", "weighting", "recipe"])["mean"].sort_index()
    columns = {name: study[key] for name, key in CRITERIA.items() if key in study.index}
    return pd.DataFrame(columns)


def best_trial(trials: list[Trial], accuracies: pd.Series) -> Trial:
    """The trial with the highest accuracy, the first of equal ones."""
    return max(trials, key=lambda trial: accuracies[trial.recipe])


def wider_trials(best: Trial, axes: tuple[Axis, ...]) -> list[tuple[tuple[Axis, ...], tuple[float, ...]]]:
    """For each axis at whose end the best trial is: the axes with the next value, and the trial with this value."""
    wider = []
    for position, (axis, value) in enumerate(zip(axes, best.point, strict=True)):
        following = axis.next_to(value)
        if following is not None:
            changed = (*axes[:position], axis.with_value(following), *axes[position + 1 :])
            wider.append((changed, (*best.point[:position], following, *best.point[position + 1 :])))
    return wider


def tune(part: Part, folder: Path, out: Path, cores: int) -> tuple[pd.DataFrame, pd.DataFrame, dict[tuple, Trial]]:
    """Tune all methods of a part. Returns all trials, the chosen settings, and (method, criterion) -> chosen trial."""
    trials = {method.name: [Trial(method, point, 1) for point in method.points] for method in part.methods}
    axes = {method.name: method.axes for method in part.methods}
    for number in range(1, part.widenings + 2):
        everything = [trial for of_method in trials.values() for trial in of_method]
        results = run_study(folder, tuning_config(part, everything), out / f"{part.name}_tuning.yaml", cores)
        accuracies = validation_accuracies(results)
        best = {
            (name, criterion): best_trial(of_method, accuracies[criterion])
            for name, of_method in trials.items()
            for criterion in part.criteria
        }
        if number > part.widenings:
            break
        added = False
        for (name, _), trial in best.items():
            for changed, point in wider_trials(trial, axes[name]):
                known = {other.point for other in trials[name]}
                axes[name] = tuple(
                    replace(old, values=tuple(sorted({*old.values, *new.values})))
                    for old, new in zip(axes[name], changed, strict=True)
                )
                if point not in known:
                    trials[name].append(Trial(trial.method, point, number + 1))
                    added = True
        if not added:
            break
    trial_rows = [
        {"part": part.name, "method": name, "recipe": trial.recipe, "pass": trial.number}
        | {
            f"hyperparameter_{i}": f"{axis.key}={value:g}"
            for i, (axis, value) in enumerate(zip(trial.method.axes, trial.point, strict=True), 1)
        }
        | {f"validation_{criterion}": accuracies.loc[trial.recipe, criterion] for criterion in part.criteria}
        for name, of_method in trials.items()
        for trial in of_method
    ]
    settings = [
        {
            "part": part.name,
            "method": name,
            "chosen_by": criterion,
            "recipe": trial.recipe,
            "validation": accuracies.loc[trial.recipe, criterion],
            "trials": len(trials[name]),
            "seeds": len(part.tuning_seeds),
            "at_end": ", ".join(
                axis.key
                for axis, value in zip(axes[name], trial.point, strict=True)
                if len(axis.values) > 1 and value in (axis.values[0], axis.values[-1])
            ),
        }
        for (name, criterion), trial in best.items()
    ]
    return pd.DataFrame(trial_rows), pd.DataFrame(settings), best


def read_settings(part: Part, out: Path) -> tuple[pd.DataFrame, dict[tuple, Trial]]:
    """The settings that were chosen for `part.settings_of`, from its tables in `out`; returned as by `tune`.

    Of an internal part: of the methods that it has (see the top of this file).
    """
    file = out / f"{part.settings_of}_settings.csv"
    if not file.exists():
        sys.exit(f"{part.name} uses the settings of {part.settings_of}: run --only {part.settings_of} first")
    settings = pd.read_csv(file, keep_default_na=False)
    trials = pd.read_csv(out / f"{part.settings_of}_trials.csv", keep_default_na=False).set_index("recipe")
    methods = {method.name: method for method in part.methods}
    if part.generator:
        filled = {method.name for method in part.methods if method.data == "balanced" and method.fill in part.fills}
        compared = {name for criterion in part.criteria for name in baselines(part, settings, criterion)}
        compared = {name for name in compared if methods[name].fill in part.fills}
        settings = settings[settings["method"].isin(filled | compared)]
    best = {}
    for row in settings.itertuples():
        axes = trials.loc[row.recipe, [f"hyperparameter_{i + 1}" for i in range(len(methods[row.method].axes))]]
        point = tuple(float(text.split("=")[1]) for text in axes)
        best[row.method, row.chosen_by] = Trial(methods[row.method], point, int(trials.loc[row.recipe, "pass"]))
    return settings, best


def measure(
    part: Part, best: dict[tuple, Trial], settings: pd.DataFrame, folder: Path, out: Path, cores: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train the chosen settings and test them. Returns the results and the paired differences, one row per metric."""
    chosen = list({trial.recipe: trial for trial in best.values()}.values())
    results = run_study(folder, evidence_config(part, chosen), out / f"{part.name}.yaml", cores)
    rows = last_stages(read_manifest("study", results / "study.parquet"))
    names = pd.DataFrame(list(RESULTS.values()), columns=["metric", "subset", "weighting"]).assign(column=list(RESULTS))
    rows = rows.merge(names, on=["metric", "subset", "weighting"])
    labels = settings[["method", "chosen_by", "recipe"]]
    columns = ["part", "variant", "method", "chosen_by", "recipe", "stage", "column", "mean", "low", "high", "seeds"]
    table = rows.merge(labels, on="recipe").assign(part=part.name)[[*columns, "varied"]]
    values = {}  # (variant, recipe) -> column x seed
    for variant in rows["variant"].unique():
        metrics = read_manifest("metrics", Path(f"{results}-{variant}") / "metrics.parquet")
        metrics = last_stages(metrics).merge(names, on=["metric", "subset", "weighting"])
        for recipe, of_recipe in metrics.groupby("recipe"):
            values[variant, recipe] = of_recipe.pivot(index="column", columns="seed", values="value")
    differences = []
    for criterion in part.criteria:
        of_criterion = table[table["chosen_by"] == criterion]
        rows_of = of_criterion[["variant", "method", "recipe"]].drop_duplicates()
        for baseline in rows_of[rows_of["method"].isin(baselines(part, settings, criterion))].itertuples():
            for row in rows_of.itertuples():
                if (row.variant, row.recipe) == (baseline.variant, baseline.recipe):
                    continue
                delta = values[row.variant, row.recipe] - values[baseline.variant, baseline.recipe]
                delta = delta.dropna(axis=1)  # seeds that only one of the two has
                for column, of_column in delta.iterrows():
                    mean, low, high = mean_interval(of_column.to_numpy())
                    differences.append(
                        {"part": part.name, "chosen_by": criterion, "variant": row.variant, "method": row.method}
                        | {"minus": baseline.method, "column": column, "mean": mean, "low": low, "high": high}
                        | {"seeds": len(of_column)}
                    )
    return table, pd.DataFrame(differences)


def baselines(part: Part, settings: pd.DataFrame, criterion: str) -> list[str]:
    """The methods that all are compared with: cross-entropy, the best without synthetic images, and the best of all.

    Best by the validation images.
    """
    of_criterion = settings[settings["chosen_by"] == criterion].sort_values("validation", ascending=False)
    real = [method.name for method in part.methods if method.data != "balanced"]
    best_real = of_criterion.loc[of_criterion["method"].isin(real), "method"].head(1)
    return list(dict.fromkeys(["cross_entropy", *best_real, *of_criterion["method"].head(1)]))


def markdown(part: Part, settings: pd.DataFrame, results: pd.DataFrame) -> str:
    """The results of a part as a table per variant and criterion."""
    trials = settings.groupby(["method", "chosen_by"])[["trials", "at_end"]].first()
    trained = (
        ["For each seed a generator was trained on the training images alone."]
        if part.generator
        else [
            "The generator was trained on tens of thousands of other images of Fashion-MNIST, which the methods",
            "without synthetic images do not have.",
        ]
    )
    lines = [
        f"# {part.name}",
        "",
        "Written by benchmarks/evidence.py. In %, mean over seeds [95 % interval, Student t] on the test images. The",
        f"settings were chosen on the validation images of {part.settings_of or part.name}.",
        *trained,
        "At an end: hyperparameters whose chosen value is the smallest or the largest that was tried.",
    ]
    for (variant, criterion), rows in results.groupby(["variant", "chosen_by"], sort=False):
        columns = [column for column in RESULTS if column in set(rows["column"])]
        needs = "needs the groups of the validation images" if criterion == "worst_cell" else "needs no groups"
        lines += ["", f"## {variant}: {FILL_WORDS[variant]}", ""]
        lines += [f"Settings were chosen by `{criterion}`, which {needs}.", ""]
        varied = rows.loc[rows["varied"].str.len().idxmax(), "varied"]
        lines += [f"Networks of different seeds differ in: {varied} (without synthetic images: training seed).", ""]
        lines += [
            f"| | {' | '.join(columns)} | seeds | trials | at an end |",
            f"|---|{'---:|' * (len(columns) + 2)}---|",
        ]
        for method, of_method in rows.groupby("method", sort=False):
            cells = of_method.set_index("column")
            texts = [value_text(cells.loc[column]) if column in cells.index else "" for column in columns]
            counted = trials.loc[(method, criterion)]
            last = [str(cells["seeds"].iloc[0]), str(counted["trials"]), counted["at_end"]]
            lines.append(f"| {method} | {' | '.join([*texts, *last])} |")
    return "\n".join(lines) + "\n"


def value_text(row: pd.Series) -> str:
    """Mean and interval in %."""
    interval = "" if pd.isna(row["low"]) else f" [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
    return f"{100 * row['mean']:.1f}{interval}"


def hold_out_half(source: Path, out: Path) -> None:
    """Copy a coloured data set; every second validation image of every cell gets the split `reweight`."""
    table = pq.read_table(source)
    frame = table.select(["split", "label_name", "color"]).to_pandas()
    order = frame.groupby(["split", "label_name", "color"]).cumcount()
    split = np.where((frame["split"] == "validation") & (order % 2 == 1), "reweight", frame["split"])
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table.set_column(table.column_names.index("split"), "split", pa.array(split)),
        out / "images.parquet",
        compression="NONE",
    )


def make_data(official: Path, cores: int, names: list[str]) -> None:
    """The data sets of the parts `names`, below build/, and the outside generator of the groups."""
    build, python = ROOT / "build", sys.executable
    if not (build / "study").exists() or not (build / "grey").exists():
        make = ["resources/fashion_mnist_lt/make.py", str(official)]
        run([python, *make, "--study", "build/study", "--colored", "build/grey"], ROOT)
    if not {"groups", "groups_internal"} & set(names):
        return
    for name, strength in (("pool", "0.5"), ("data", "0.95")):
        if not (build / "colored" / name).exists():
            make = ["resources/fashion_mnist_colored/make.py", f"build/grey/{name}", f"build/colored/{name}"]
            run([python, *make, "--strength", strength], ROOT)
    if not (build / "colored/evidence").exists():
        hold_out_half(build / "colored/data/images.parquet", build / "colored/evidence")
    trained = (ROOT / "results/fashion_mnist_colored_pool/generator/model_index.json").exists()
    if "groups" in names and not trained:
        snakemake(ROOT, cores, "train_generator", "--configfile", "experiments/fashion_mnist_colored_pool.yaml")


def make_quick_data(folder: Path) -> None:
    """Small data sets from the embedded images, at the places that the configs name."""

    def some_of(split: str, counts: list[int], name: str) -> pa.Table:
        table = pq.read_table(ROOT / "resources/fashion_mnist_lt" / f"{split}.parquet", columns=["image", "label_name"])
        labels = table["label_name"].to_pandas()
        rows = [np.flatnonzero(labels == label)[:count] for label, count in zip(labels.unique(), counts, strict=True)]
        chosen = table.take(np.concatenate(rows))
        return chosen.append_column("split", pa.array([name] * len(chosen)))

    def write(tables: list[pa.Table], place: str) -> None:
        (folder / place).mkdir(parents=True)
        pq.write_table(pa.concat_tables(tables), folder / place / "images.parquet")

    train, test = some_of("train", [5, 4, 4, *[3] * 7], "train"), some_of("test", [4] * 10, "test")
    write([train, test], "build/study/validation")
    write([train, test], "build/study/test")
    even = some_of("train", [5] * 10, "train")
    write([even, some_of("test", [8] * 10, "validation"), test], "build/grey/data")
    make = ["resources/fashion_mnist_colored/make.py", "build/grey/data", "build/colored/data", "--strength", "0.5"]
    run([sys.executable, *make], folder)
    hold_out_half(folder / "build/colored/data/images.parquet", folder / "build/colored/evidence")


# Methods on real and on synthetic images, with and without stage 2. By default the groups are run, which have both
# criteria and the extra split.
_QUICK_GROUPS = ["cross_entropy", "dfr_validation", "filled_fine_tuned"]
QUICK_METHODS = {
    "groups": _QUICK_GROUPS,
    "groups_internal": _QUICK_GROUPS,
    "classes_100": ["cross_entropy", "logit_adjustment", "filled", "synaug"],
}


def quick(part: Part) -> Part:
    """The part with few methods, seeds and steps."""
    small = {
        "generation": {"steps": 1, "model": "resources/embedded_generator", "batch_size": 8},
        "training": {"width": 4, "steps": 2, "batch_size": 8},
        "screening": {"classifier": {"steps": 2}},
    }
    methods = []
    for method in part.methods:
        if method.name not in QUICK_METHODS[part.name]:
            continue
        first, *others = method.axes
        axes = (replace(first, values=first.values[:2]), *(replace(axis, values=axis.values[1:2]) for axis in others))
        stage1 = method.stage1 | ({"jtt": {"steps": 1}} if "jtt" in method.stage1 else {})
        methods.append(replace(method, axes=axes, stage1=stage1))
    steps = {"autoencoder_steps": 1, "denoiser_steps": 1, "batch_size": 4}
    return replace(
        part,
        base=merge(part.base, small),
        methods=methods,
        generator=part.generator and part.generator | steps,
        tuning_seeds=(0,),
        seeds=(0, 1),
        widenings=1,
    )


def main() -> None:
    """Run all parts, write their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="the four official files of Fashion-MNIST")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cores", type=int, default=2)
    every = parts()
    parser.add_argument("--only", nargs="+", choices=[part.name for part in every])
    arguments = parser.parse_args()
    if not arguments.quick and arguments.folder is None:
        parser.error("FOLDER is needed without --quick")
    if arguments.quick and set(arguments.only or ()) - QUICK_METHODS.keys():
        parser.error(f"--quick is for {', '.join(QUICK_METHODS)}")
    names = arguments.only or (["groups", "groups_internal"] if arguments.quick else [part.name for part in every])
    chosen = [part for part in every if part.name in names]
    with tempfile.TemporaryDirectory() as place:
        folder, out = ROOT, ROOT / "docs/results/evidence"
        if arguments.quick:
            folder, out = Path(place), Path(place) / "evidence"
            for name in COPIED:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
                copy(ROOT / name, folder / name)
            make_quick_data(folder)
            chosen = [quick(part) for part in chosen]
        else:
            make_data(arguments.folder.resolve(), arguments.cores, names)
        summary = {}
        for part in chosen:
            summary[part.name] = run_part(part, folder, out, arguments.cores)
            if not arguments.quick:  # after each part: a part takes an hour or more
                file = ROOT / "benchmarks/results/evidence.json"
                measured = json.loads(file.read_text()) if file.exists() else {}
                measured[part.name] = {**summary[part.name], **measured_on()}
                file.write_text(json.dumps(measured, indent=2) + "\n")
    print(json.dumps({"parts": summary, "quick": arguments.quick, **measured_on()}))


def run_part(part: Part, folder: Path, out: Path, cores: int) -> dict[str, Any]:
    """Tune a part if it has settings of its own, measure it, and write its tables to `out`. Returns what was chosen."""
    tables = {}
    if part.settings_of:
        settings, best = read_settings(part, out)
    else:
        tables["trials"], settings, best = tune(part, folder, out, cores)
        tables["settings"] = settings
    tables["results"], tables["differences"] = measure(part, best, settings, folder, out, cores)
    for name, table in tables.items():
        table.to_csv(out / f"{part.name}_{name}.csv", index=False, float_format="%.6g")
    text = markdown(part, settings, tables["results"])
    (out / f"{part.name}.md").write_text(text)
    print(text, file=sys.stderr)
    if part.settings_of:
        return {"settings_of": part.settings_of, "recipes": len(set(settings["recipe"]))}
    return {
        "trials": len(tables["trials"]),
        "chosen": dict(zip(settings["method"] + ", " + settings["chosen_by"], settings["recipe"], strict=True)),
        "at_end": settings.loc[settings["at_end"] != "", "method"].unique().tolist(),
    }


if __name__ == "__main__":
    main()
