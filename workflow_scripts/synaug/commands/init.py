"""`synaug init`: from a folder of images, a table, or a data set of the hub, to a config for them."""

import csv
import io
import json
import re
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
import yaml

from synaug.commands.fetch import fetch_one, quieten_hub
from synaug.commands.init_budget import CPU_BUDGET, GPU_BUDGET, NO_GENERATOR, check_budget
from synaug.commands.init_estimate import Settings, fault_seconds
from synaug.commands.init_settings import PUBLIC_MODEL, PUBLIC_REVISION, choose_settings, training_counts
from synaug.config import EMBEDDED_BACKBONE, Dataset, load_config
from synaug.config.dataset import HUB_ID
from synaug.config.portfolio import portfolio
from synaug.datasets.detect import COLOR_SAMPLE, DetectedDataset, check_columns_are_read, detect
from synaug.datasets.faults import faults_of
from synaug.datasets.folder import TABLES
from synaug.datasets.hub import PARQUET_COPY, cached
from synaug.datasets.hub import download as download_data_set
from synaug.datasets.look_alikes import look_alikes
from synaug.downloads import Download
from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path, check_no_braces
from synaug.runtime.machine import Machine, this_machine
from synaug.runtime.shown_text import csv_cell

MAX_CLASSES_SHOWN = 12
# Faults in the data are looked for if that takes at most so many seconds by the estimate, and if there are so many
# training images, from which a classifier learns what the classes look like.
FAULT_SECONDS, FEWEST_FOR_FAULTS = 120, 100
WORST_LABELS = 5  # that are named


def write_config(
    path: Path,
    name: str | None = None,
    force: bool = False,
    image: str | None = None,
    label: str | None = None,
    split: str | None = None,
    groups: list[str] | None = None,
    budget_minutes: float | None = None,
    follow_links: bool = False,
    unify_names: bool = False,
) -> str:
    """Inspect the images at `path` and write `<name>.yaml` and `<name>_names.csv` to the current folder.

    path: a folder, a table, or, if there is neither, the id of a data set of the Hugging Face hub, which is downloaded.
    name: name of the experiment; None: the name of the folder. image, label, split, groups: columns of a table; None:
    columns with a usual name. budget_minutes: for the run, by the estimate; None: 20, or 180 with a GPU of 8 GB or
    more. follow_links, unify_names: keys of `dataset`. Returns a description of the data and of the next step, to be
    printed. Raises UserError if the data cannot be used, if the budget is no time, or, unless `force`, if one of the
    files exists.
    """
    if budget_minutes is not None:
        check_budget(budget_minutes)
    if name == "":
        raise UserError("--name: is empty", advice="leave it out, or give a name")
    check_no_braces(path)
    is_id = re.fullmatch(HUB_ID, str(path)) is not None and path.suffix.lower() not in (*TABLES, ".tar")
    of_hub = is_id and not path.exists()
    if of_hub and follow_links:
        raise UserError("--follow-links: a data set of the hub has no links", advice="leave it out")
    if of_hub:  # before it is downloaded
        check_columns_are_read(path, "huggingface", image, split)
    # Without the owner: people/animals/small becomes animals_small.
    name = name or _experiment_name(Path("_".join(path.parts[1:])) if of_hub else path)
    config, names = Path(f"{name}.yaml"), Path(f"{name}_names.csv")
    for file in (config, names):
        if file.exists() and not force:
            raise UserError(f"{file}: exists already", advice="give --force to replace it, or another --name")
    machine = this_machine()
    detect_at = detect_on_hub if of_hub else detect
    keys = {"follow_links": follow_links, "unify_names": unify_names}
    given = {key: True for key, value in keys.items() if value}
    detected = detect_at(path, image, label, split, groups or [], given, lambda found: _search_faults(found, machine))
    settings = choose_settings(detected, machine, budget_minutes)
    text = config_text(name, detected, str(names), settings)
    load_config(yaml.safe_load(text), str(config))
    usable = detected.rows[detected.rows["usable"]]
    words = names_text(usable, detected.dataset.get("group_columns", []))
    for file, content in ((names, words), (config, text)):
        with atomic_path(file, len(content)) as temporary:
            temporary.write_text(content, encoding="utf-8")
    reasons = "\n".join(textwrap.fill(reason, 120, subsequent_indent="  ") for reason in settings.reasons)
    return (
        f"{describe(detected, settings)}\n\n{reasons}\n\n"
        f"Wrote {config} (the experiment) and {names} (the words for the classes in prompts). "
        f"You can edit both.\nNext:\n\n    {_start(config)}\n\n"
        f"{time_text(settings)}\n{_alternative(settings)}\nThe report will be results/{name}/report.html."
    )


def detect_on_hub(
    path: Path,
    image: str | None,
    label: str | None,
    split: str | None,
    groups: list[str],
    given: dict[str, bool],
    examine: Callable[[DetectedDataset], None],
) -> DetectedDataset:
    """Download the data set with the id `path`, as it is now, and detect what it holds, as `detect` does.

    If its own files are no Parquet or Arrow files, the copy in this form that the hub keeps is taken. Raises UserError
    if it cannot be downloaded or used.
    """
    quieten_hub()
    notes = []
    # Splits are not known yet: with a test split that is made, any will do.
    named = Dataset(source="huggingface", path=str(path), revision="main", image_size=32, make_splits={"test": 0.2})
    try:
        print(_fetched(named), flush=True)
    except UserError as error:
        if PARQUET_COPY not in error.advice:  # perhaps it is no id, but the name of a folder
            problem = error.problem.removeprefix("dataset.path: ")
            raise UserError(f"there is no folder {path}, and {problem}", advice=error.advice) from None
        named = named.model_copy(update={"revision": PARQUET_COPY})
        try:
            print(_fetched(named), flush=True)
        except UserError as of_copy:
            if "no such revision" not in of_copy.problem:
                raise
            advice = "save it in one of these forms, or as folders <class>/<image>"
            raise UserError(f"{error.problem}, and the hub has no Parquet copy of it", advice=advice) from None
        notes.append("its own files are no Parquet or Arrow files: the Parquet copy of the hub is used")
    folder, commit = cached(named, True)
    try:
        detected = detect(folder, image, label, split, groups, given, examine, "huggingface")
    except UserError as error:  # users know the data set by its id
        problem, advice = (text.replace(str(folder), str(path)) for text in (error.problem, error.advice))
        raise UserError(problem, advice=advice) from None
    detected.dataset |= {"path": str(path)}
    block = list(detected.dataset.items())
    place = list(detected.dataset).index("path") + 1
    detected.dataset = dict([*block[:place], ("revision", commit), *block[place:]])
    detected.notes = notes + [note.replace(str(folder), str(path)) for note in detected.notes]
    detected.rows["path"] = detected.rows["path"].astype(str).str.replace(str(folder), str(path), regex=False)
    return detected


def _fetched(dataset: Dataset) -> str:
    """Download it. Returns the line that says where it is."""
    download = Download("dataset.path", dataset.path, dataset.revision, set(), partial(download_data_set, dataset))
    return fetch_one(download)


def _search_faults(detected: DetectedDataset, machine: Machine) -> None:
    """Add the columns of `find_faults` to the rows of `detected`, if that takes minutes and makes sense."""
    rows, train = detected.rows, detected.dataset.get("train_split", "train")
    usable = int(rows["usable"].sum())
    seconds = fault_seconds(usable, machine.cores)
    if (rows["usable"] & (rows["split"] == train)).sum() < FEWEST_FOR_FAULTS:
        return
    if seconds > FAULT_SECONDS:
        why = f"because that takes about {seconds / 60:.0f} minutes; dataset.faults.find: true does it"
        detected.notes.append(f"wrong labels and other faults were not looked for, {why}")
        return
    if find_spec("cleanlab") is None:
        why = "because the package cleanlab is missing; pip install 'synaug[faults]', and call synaug init again"
        detected.notes.append(f"wrong labels and other faults were not looked for, {why}")
        return
    from synaug.datasets.fault_search import find_faults  # torch takes seconds to import

    print(f"Looking for wrong labels and other faults: about {seconds:.0f} s ...", file=sys.stderr, flush=True)
    dataset = Dataset(**detected.dataset, image_size=32, color="grey" if detected.grey else "rgb")
    try:
        detected.rows = find_faults(rows, dataset, machine.cores)
    except UserError as error:  # the config does not need it
        detected.notes.append(f"wrong labels and other faults were not looked for: {error}")


def _start(config: Path | str) -> str:
    """The command that starts the workflow in the current folder."""
    # Not the workflow of somebody else.
    checkout = Path("Snakefile").is_file() and Path("workflow_scripts/synaug").is_dir()
    return f"snakemake --cores all --configfile {config}" if checkout else f"synaug run {config}"


def time_text(settings: Settings) -> str:
    """The estimate by parts, the budget, and what was given up for it, in some lines of at most 118 characters."""
    parts = ", ".join(f"{part} {minutes:.0f}" for part, minutes in settings.minutes.items() if minutes >= 0.5)
    total = f"about {settings.total_minutes:.0f} minutes"
    budget = "1 minute" if settings.budget == 1 else f"{settings.budget:g} minutes"
    given_up = (
        f"Given up for it: {'; '.join(settings.given_up)}." if settings.given_up else "Nothing is given up for it."
    )
    lines = [f"It takes {total} {_on(settings)}: {parts}.", f"The budget is {budget}. {given_up}"]
    if settings.total_minutes > settings.budget:
        lines.append(f"Even the smallest run that makes sense takes longer than the budget: {total}.")
    return "\n".join(textwrap.fill(line, 118, subsequent_indent="  ") for line in lines)


def _on(settings: Settings) -> str:
    """The machine of the estimate."""
    if settings.gpu:
        return "on a GPU with 24 GB (not measured)"
    cores = {1: "one core", 2: "two cores"}.get(settings.cores, f"{settings.cores} cores")
    return f"on {cores} without a GPU"


def _alternative(settings: Settings) -> str:
    """What else could be done, and what it costs."""
    if NO_GENERATOR in settings.given_up:
        return "Alternative: a larger --budget-minutes, if classes are to get synthetic images."
    if not settings.synthetic_images:
        return "Alternative: a balance.target above the size of the classes, if all are to get synthetic images."
    if settings.public_model and settings.adaptation_steps:
        return (
            "Alternative: the public model as it is, without the block adaptation: about "
            f"{settings.minutes['adaptation']:.0f} minutes less."
        )
    if settings.public_model:
        return (
            "Alternative: adapt the model to your images first (docs/how-to/models.md), with the package peft and a\n"
            "larger --budget-minutes."
        )
    if settings.gpu:
        return "Alternative: with access to the hub, or with a public model in its local cache, call synaug init again."
    return (
        "Alternatives: a public model on a GPU, which makes better images (its lines are in the config, commented\n"
        "out); or a generator that is trained for longer: four times as many steps take about "
        f"{3 * settings.minutes['generator']:.0f} minutes more."
    )


def _experiment_name(path: Path) -> str:
    """A valid name for the experiment, from the name of the folder or file."""
    stem = path.resolve().stem if path.is_file() else path.resolve().name
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("._-") or "mine"


def names_text(rows: pd.DataFrame, group_columns: list[str]) -> str:
    """CSV with the columns label and name, and a row for every class and every value of a group column."""
    labels = list(rows.sort_values("label")["label_name"].loc[lambda names: names != ""].unique())
    labels += sorted({value for values in rows["attributes"] for value in values} if group_columns else ())
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["label", "name"])
    for label in dict.fromkeys(labels):
        writer.writerow([csv_cell(label), csv_cell(re.sub(r"[_\s]+", " ", label).strip() or label)])
    return buffer.getvalue()


def describe(detected: DetectedDataset, settings: Settings) -> str:
    """The data set in some lines for the terminal."""
    rows, usable = detected.rows, detected.rows[detected.rows["usable"]]
    counts = usable.groupby(["label_name", "split"]).size().unstack(fill_value=0)
    train = detected.dataset.get("train_split", "train")
    test, validation = detected.dataset.get("test_split", "test"), detected.dataset.get("validation_split")
    counts = counts[[split for split in (train, test, validation) if split in counts]].sort_values(
        train, ascending=False, kind="stable"
    )
    lines = [f"{detected.dataset['path']}: {len(usable):,} images in {len(counts)} classes"]
    lines += [f"  {note}" for note in detected.notes]
    lines += ["", *_counts_lines(counts), ""]
    lines.append(f"  largest class / smallest class: {counts[train].max() / counts[train].min():.3g}")
    if detected.dataset.get("group_columns"):
        sizes = training_counts(detected)
        lines.append(
            f"  {len(sizes)} cells (class and group) in {train!r}, with {sizes.min():,} to {sizes.max():,} images"
        )
    for split, title in ((test, "a test image"), (validation, "a validation image")):
        without = [name for name in counts.index if not counts.loc[name, split]] if split in counts else []
        if without:
            lines.append(f"  {_number_of(len(without), 'class')} without {title}, e.g. {without[0]!r}")
    side = usable[["width", "height"]].min(axis=1)
    lines.append(
        f"  shorter side: {side.min()} to {side.max()} pixels, median {side.median():.0f}; "
        f"images are resized to {settings.image_size}"
    )
    if all(re.fullmatch(r"\d+", name) for name in counts.index):
        lines.append("  the class names are numbers: for a public model, write words into the names file")
    modes = ", ".join(f"{count} {mode}" for mode, count in detected.modes.most_common())
    color = "grey (no image has colours)" if detected.grey else "rgb"
    sampled = f", in a sample of {COLOR_SAMPLE}" if len(usable) > COLOR_SAMPLE else ""
    lines.append(f"  pixels: {color} ({modes}{sampled})")
    if detected.transparent:
        lines.append(f"  {detected.transparent} of them have transparent areas, which become white")
    if detected.animated:
        lines.append(f"  {detected.animated} of them have several frames; the first is used")
    if detected.few_bits:
        lines.append(
            f"  {detected.few_bits} of them have 16 bits per sample and use at most 12, so that they are nearly black; "
            "save them with 8 bits"
        )
    lines += [f"  {line}" for line in _faults(rows, usable)]
    return "\n".join(lines + ([f"  {line}" for line in _suggested_faults(rows)] if detected.searched else []))


def _counts_lines(counts: pd.DataFrame) -> list[str]:
    """A table of images per class (rows) and split (columns); of many classes the largest and the smallest."""
    title = "images per class"
    width = max(len(title), *map(len, counts.index.astype(str)))
    lines = [f"  {name:{width}}" + "".join(f"  {count:>10,}" for count in row) for name, *row in counts.itertuples()]
    if len(lines) > MAX_CLASSES_SHOWN:
        ends = MAX_CLASSES_SHOWN // 2
        lines[ends:-ends] = [f"  ... {len(lines) - 2 * ends} classes between"]
    return [f"  {title:{width}}" + "".join(f"  {split:>10}" for split in counts.columns), *lines]


def _faults(rows: pd.DataFrame, usable: pd.DataFrame) -> list[str]:
    """Lines about unusable images and duplicates."""
    lines = []
    for reason, of_reason in rows[~rows["usable"]].groupby("reason"):
        lines.append(f"{_number_of(len(of_reason), 'file')} not used: {reason}: {_place(of_reason.iloc[0])}")
    duplicates = [images for _, images in usable[usable.duplicated("sha256", keep=False)].groupby("sha256")]
    if duplicates:
        lines.append(f"{_number_of(len(duplicates), 'image')} more than once (identical files)")
    in_splits = [images.drop_duplicates("split") for images in duplicates if images["split"].nunique() > 1]
    if in_splits:
        lines.append(
            f"{_number_of(len(in_splits), 'image')} in more than one split, which makes results too good; "
            f"remove one of {_places(in_splits[0])}"
        )
    in_classes = [images.drop_duplicates("label_name") for images in duplicates if images["label_name"].nunique() > 1]
    if in_classes:
        lines.append(f"{_number_of(len(in_classes), 'image')} in more than one class, e.g. {_places(in_classes[0])}")
    for alike in look_alikes(rows["label_name"]):
        lines.append(
            f"{len(alike)} classes look alike: {', '.join(map(ascii, alike))}; dataset.unify_names: true makes them one"
        )
    return lines


def _suggested_faults(rows: pd.DataFrame) -> list[str]:
    """Lines about the faults of `find_faults`, the worst of them by name."""
    found, of_id = faults_of(rows), rows.set_index("image_id")
    issues, outliers, duplicates, leaks = (
        rows[found[kind]] for kind in ("label_issues", "outliers", "duplicates", "leaks")
    )
    lines = []
    if len(issues):
        lines.append(f"{_number_of(len(issues), 'label')} may be wrong; the most doubtful:")
        for _, row in issues.sort_values("label_quality").head(WORST_LABELS).iterrows():
            lines.append(f"  {_place(row)}: is labelled {row['label_name']!r}, looks like {row['suggested_label']!r}")
    if len(outliers):
        worst = outliers.sort_values("outlier_score").iloc[-1]
        lines.append(f"{_number_of(len(outliers), 'image')} unlike all others, such as {_place(worst)}")
    for images, column, what in (
        (duplicates, "duplicate_of", "nearly the same as another image of its split"),
        (leaks, "leak_of", "nearly the same as an image of a held-out split, which makes results too good"),
    ):
        if len(images):
            row = images.iloc[0]
            pair = f"{_place(row)} and {_place(of_id.loc[row[column]])}"
            lines.append(f"{_number_of(len(images), 'image')} {what}, such as {pair}")
    lines = lines or ["no wrong labels, outliers or near-duplicates were found"]
    return [*lines, "the report shows these faults; nothing is dropped for them unless dataset.faults.drop says so"]


def _places(rows: pd.DataFrame) -> str:
    """Where the first two images are."""
    return ", ".join(_place(row) for _, row in rows.iloc[:2].iterrows())


def _place(row: pd.Series) -> str:
    """Where an image is: its file, or a table and the row in it."""
    return row["path"] if pd.isna(row["row"]) else f"{row['path']}, row {row['row']}"


def _number_of(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"


def _yaml_block(values: dict) -> str:
    """The lines of a block of YAML, without its key."""
    return "\n".join(f"  {key}: {_yaml_value(value)}" for key, value in values.items())


def _yaml_value(value: object) -> str:
    """A value without quotes where that is safe, otherwise as JSON, which is valid YAML for any text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_yaml_value(key)}: {_yaml_value(item)}" for key, item in value.items()) + "}"
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_/.][\w/.-]*", value) and yaml.safe_load(value) == value
    return value if plain else json.dumps(value, ensure_ascii=False)


def config_text(name: str, detected: DetectedDataset, names: str, settings: Settings) -> str:
    """The config as commented YAML. names: path of the file with the words for the classes."""
    color = "grey" if detected.grey else "rgb"
    groups = ", {group}" if detected.dataset.get("group_columns") else ""
    if "validation_split" in detected.dataset:
        evaluation = """\
  # The recipe that is used in the end: the best one on the validation images. One with synthetic images is chosen only
  # if it is better by more than the noise of these images, so that the classifier is not worse than without them.
  choose_by: balanced"""
        seeds = "After each seed, only the better half of the recipes is trained with the next one."
    else:
        evaluation = """\
  # To choose a recipe by validation images, each class needs more images: dataset.validation_split.
  choose_by: null"""
        seeds = "Every recipe is trained once with each seed."
    classes = detected.rows["label"].max() + 1
    cell = "class in every group" if groups else "class"
    return f"""\
# {settings.training_images:,} training images in {classes} classes. config.yaml explains every key.
#     {_start(f"{name}.yaml")}
{_comment(time_text(settings))}
experiment: {_yaml_value(name)}
dataset:
{_yaml_block(detected.dataset)}
{_faults_text(settings)}\
  # Side of the square images for the classifier, pixels. Synthetic images are scaled to it.
  image_size: {settings.image_size}
  color: {color}
prompts:
  templates:
    - a photo of a {{label}}{groups}
  # The words for the classes. Write words that describe a class to a stranger: a public model knows no others.
  names: {_yaml_value(names)}
{_balance_text(settings, cell, bool(groups))}
{_generator_text(f"results/{name}", color, settings)}{_fills_text(settings)}
{_screening_text(settings, "validation_split" in detected.dataset)}training:
  # All recipes have the same budget. More steps take longer.
  steps: {settings.training_steps}
{_network_text(settings)}
  batch_size: {settings.batch_size}
{_recipes_text(settings)}
evaluation:
  # The imbalanced real images as they are: what the others are compared with.
  baseline: real
{evaluation}
# {seeds}
# The intervals in the report are over the seeds.
seeds: {list(range(settings.seeds))}
"""


def _faults_text(settings: Settings) -> str:
    """The key `faults` of the block `dataset`, with a line break behind it, if they are looked for."""
    if not settings.find_faults:
        return ""
    return """\
  # Wrong labels, outliers, near-duplicates and leaks between the splits, in real.parquet and in the report. To leave
  # training images with such a fault out, name it in `drop`: [label_issues, outliers, duplicates, leaks].
  faults: {find: true, drop: []}
"""


def _comment(text: str) -> str:
    """The lines as a comment of YAML."""
    return textwrap.indent(text, "# ", lambda line: True)


def _balance_text(settings: Settings, cell: str, groups: bool) -> str:
    """The block `balance`. cell: what is filled, in words. groups: whether the data set has them."""
    if not settings.synthetic_images:
        text = """\
balance:
  # Every class has at least one image, so that no synthetic ones are made.
  strategy: fixed
  target: 1"""
        if groups:  # a class without an image in a group
            text += "\n  # Nor are any made for a class in a group without a real image.\n  max_synthetic_per_real: 1"
        return text
    return f"""\
balance:
  # The number of images to which every {cell} is filled. One with more images keeps all of them.
  # With this number there are at most as many synthetic images as real ones.
  strategy: fixed
  target: {settings.target}
  # Images generated per image wanted: the screening rejects some.
  oversample: {settings.oversample}
  # If more pass than are wanted, keep those that together represent all of them. With the most typical ones, the
  # classifier was worse.
  keep: coverage"""


def _screening_text(settings: Settings, validation: bool) -> str:
    """The block `screening`, with a line break behind it. validation: whether there are validation images."""
    if not settings.synthetic_images:
        return ""
    text = f"""\
screening:
  # Only images that a classifier of the real images takes for the class that they should show.
  classifier:
    steps: {settings.screening_steps}
    must_agree: true
"""
    if validation:
        text += """\
    # Use as much of a class's images as it recognises, in comparison with the validation images of the class.
    gate: true
"""
    if validation and settings.public_model:
        text += """\
    # By this number of images of each class, before the others are made.
    pilot: 16
"""
    if settings.adaptation_steps:
        text += """\
  # No image that repeats a real one: the adapter may have memorised images, above all those of small classes. Outlines
  # are compared. If nearly all images have the same outline: {max_hash_distance: 0}.
  leakage: {}
"""
    return text


def _recipes_text(settings: Settings) -> str:
    """The key `recipes`."""
    recipes = portfolio(settings.fills)
    if len(settings.recipes) == len(recipes):
        return f"""\
# {len(recipes)} recipes, three without synthetic images: workflow_scripts/synaug/config/portfolio.py.
recipes: auto"""
    return f"""\
# Some of the {len(recipes)} recipes of `recipes: auto`, workflow_scripts/synaug/config/portfolio.py.
recipes:
{_yaml_block({name: recipes[name] for name in settings.recipes})}"""


def _fills_text(settings: Settings) -> str:
    """The block `fills`, if there are several."""
    if not settings.fills:
        return ""
    from_text, from_real = settings.fills
    return f"""
# Two sets of synthetic images, which the recipes use one at a time: from the prompts, and variations of real images.
fills:
  {from_text}: {{}}
  {from_real}: {{pipeline: image-to-image, strength: 0.5}}"""


def _network_text(settings: Settings) -> str:
    """The keys of the network, in the block `training`."""
    if settings.backbone is None:
        return """\
  # A small network, trained from scratch, because the images are tiny.
  width: 24"""
    if settings.frozen:
        return f"""\
  # EfficientNet-Lite0 with its ImageNet weights, which are installed with synaug. Only its last layer is trained, on
  # features that are computed once for each image. It is far better than a small network that has seen only these
  # images. To train such a network instead: `width: 24` in place of the next three lines, and a smaller image_size.
  backbone: {settings.backbone}
  pretrained: embedded
  freeze: backbone"""
    embedded = settings.backbone == EMBEDDED_BACKBONE
    return f"""\
  # Pretrained on ImageNet and trained in full. Its weights change slowly, those of the last layer ten times as fast.
  backbone: {settings.backbone}
  pretrained: {"embedded" if embedded else "true"}
  backbone_rate: 0.1
  precision: bfloat16
  # Random crops of at least this share of an image.
  crop_area: 0.5"""


def _generator_text(results: str, color: str, settings: Settings) -> str:
    """The blocks `generator` and `generation`; the one that is not used is commented out."""
    size = settings.generator_size
    public = f"""\
generation:
  model: {PUBLIC_MODEL}
  revision: {PUBLIC_REVISION}
  scheduler: DPMSolverMultistepScheduler
  size: 512
  steps: 20
  guidance: 2.0
  dtype: float16
  licence: CreativeML Open RAIL-M"""
    small = f"""\
generator:
  images: {results}/real.parquet
  output: {results}/generator
  size: {size}
  color: {color}
  autoencoder_steps: {settings.autoencoder_steps}
  denoiser_steps: {settings.denoiser_steps}
  sampling: square_root
  batch_size: {settings.batch_size}
generation:
  model: {results}/generator
  size: {size}
  steps: 8
  guidance: 2.0
  batch_size: 100"""
    if not settings.synthetic_images:
        return f"""\
# No synthetic images are made, so that this model is not loaded. To make some, raise balance.target and write
# `recipes: auto`. This model is for a GPU with 8 GB or more.
{public}
# Without such a GPU: replace the block above by a small generator, trained on these images only.
{_comment(small)}"""
    if settings.public_model:
        adaptation, model = "", "A public model. To adapt it to your images: docs/how-to/models.md."
        if settings.adaptation_steps:
            model = (
                "A public model, and an adapter (LoRA) by which it learns your classes first: docs/how-to/models.md."
            )
            adaptation = f"""\
adaptation:
  output: {results}/adapter
  steps: {settings.adaptation_steps}
"""
            public += f"\n  adapters: [{{kind: lora, model: {results}/adapter}}]"
        return f"""\
# {model}
{adaptation}{public}
# Without a public model: replace the blocks above by a small generator, trained on these images only.
{_comment(small)}"""
    longer = "" if settings.gpu else "\n# With a GPU: 4000 and 20000 steps or more."
    return f"""\
# A small generator, trained on these images only. It knows nothing else, so that its images may not help.{longer}
{small}
# For classes that a public model knows, and a GPU with 8 GB or more: replace the two blocks above by this one.
{_comment(public)}"""


def init(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Folder of images (<class>/<image>), a table, or OWNER/NAME of the Hugging Face hub."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Name of the experiment.  [default: that of the folder]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    image: Annotated[str | None, typer.Option(help="Column of a table with the images or their paths.")] = None,
    label: Annotated[str | None, typer.Option(help="Column with the class.")] = None,
    split: Annotated[str | None, typer.Option(help="Column with the split.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Column with groups; can be repeated.")] = None,
    budget_minutes: Annotated[
        float | None,
        typer.Option(
            help=f"Minutes that the run may take, by the estimate. If it would take longer, parts of it are left out.  "
            f"[default: {CPU_BUDGET:g}, or {GPU_BUDGET:g} with a GPU of 8 GB or more]",
        ),
    ] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Read images through symbolic links.")] = False,
    unify_names: Annotated[
        bool, typer.Option("--unify-names", help="Classes whose names look alike (Cat, cat) are one class.")
    ] = False,
) -> None:
    """Inspect your images and write a config for them.

    Prints classes, counts, sizes, broken files and duplicates, then the decisions and the estimated minutes, and writes
    the config to the current folder. A data set of the Hugging Face hub is downloaded first, and the config names its
    newest commit.

    \b
    Example:
      synaug init photos --name flowers
      synaug init OWNER/NAME
      synaug init photos --budget-minutes 60
    """
    print(write_config(path, name, force, image, label, split, group, budget_minutes, follow_links, unify_names))
