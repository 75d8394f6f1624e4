"""`synaug init`: from a folder of images, or a table, to a config for them."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
import yaml

from synaug.config import load_config
from synaug.datasets.detect import COLOR_SAMPLE, DetectedDataset, detect
from synaug.runtime.errors import UserError

SIZES = (32, 64)  # sides of images in pixels; without a GPU a generator can be trained for these
PRETRAINED_SIZE = 112  # side of the images for the pretrained network: half of what it was trained with
STAGE1_STEPS = 600
AUTOENCODER_STEPS, DENOISER_STEPS = 1000, 1500
MAX_SYNTHETIC = 20_000  # images: about five minutes of two cores at 32 pixels
MAX_CLASSES_SHOWN = 12
# Seconds of two cores without a GPU at 32 pixels, for the estimate of the run time: an optimiser step of the two parts
# of the generator, a synthetic image, a step of the classifier (six networks, two at a time), and a constant. At any
# size: the features of an image by the pretrained network.
SECONDS = {
    "autoencoder": 0.15, "denoiser": 0.45, "image": 0.016, "classifier": 0.04, "features": 0.012, "constant": 90,
}  # fmt: skip


def write_config(
    path: Path,
    name: str | None = None,
    force: bool = False,
    image: str | None = None,
    label: str | None = None,
    split: str | None = None,
    groups: list[str] | None = None,
) -> str:
    """Inspect the images at `path` and write `<name>.yaml` and `<name>_names.csv` to the current folder.

    name: name of the experiment; None: the name of the folder. image, label, split, groups: columns of a table; None:
    columns with a usual name. Returns a description of the data and of the next step, to be printed. Raises UserError
    if the data cannot be used, or, unless `force`, if one of the files exists.
    """
    name = name or _experiment_name(path)
    config, names = Path(f"{name}.yaml"), Path(f"{name}_names.csv")
    for file in (config, names):
        if file.exists() and not force:
            raise UserError(f"{file}: exists already", advice="give --force to replace it, or another --name")
    detected = detect(path, image, label, split, groups or [])
    text = config_text(name, detected, str(names))
    load_config(yaml.safe_load(text), str(config))
    names.write_text(names_text(detected.rows, detected.dataset.get("group_columns", [])), encoding="utf-8")
    config.write_text(text, encoding="utf-8")
    note = "" if Path("Snakefile").is_file() else "\nThere is no Snakefile here: call synaug in the workflow's folder."
    return (
        f"{describe(detected)}\n\nWrote {config} (the experiment) and {names} (the words for the classes in prompts). "
        f"You can edit both.{note}\nNext:\n\n    snakemake --cores all --configfile {config}\n\n"
        f"This trains a small generator on these images. It takes about {minutes(detected):.0f} minutes on two cores "
        f"without a GPU. The report will be results/{name}/report.html."
    )


def _experiment_name(path: Path) -> str:
    """A valid name for the experiment, from the name of the folder or file."""
    stem = path.resolve().stem if path.is_file() else path.resolve().name
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("._-") or "mine"


def generator_size(rows: pd.DataFrame) -> int:
    """The largest of SIZES that is at most the median shorter side of the usable images, or the smallest."""
    return max((size for size in SIZES if size <= _median_side(rows)), default=SIZES[0])


def is_pretrained(rows: pd.DataFrame) -> bool:
    """Whether the classifier is the pretrained network: for images that are larger than the smallest of SIZES."""
    return _median_side(rows) > SIZES[0]


def _median_side(rows: pd.DataFrame) -> float:
    """Median of the shorter sides of the usable images, pixels."""
    return rows.loc[rows["usable"], ["width", "height"]].min(axis=1).median()


def fill_target(counts: pd.Series) -> int:
    """The number of images to which every class is filled: that of the largest class, or less.

    It is the largest number for which at most MAX_SYNTHETIC images are generated. counts: real images per class.
    """
    low, high = 1, int(counts.max())
    while low < high:
        middle = (low + high + 1) // 2
        fits = (middle - counts).clip(lower=0).sum() <= MAX_SYNTHETIC
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def training_counts(detected: DetectedDataset) -> pd.Series:
    """Usable training images per class, or per class and group."""
    train = detected.dataset.get("train_split", "train")
    rows = detected.rows[(detected.rows["split"] == train) & detected.rows["usable"]]
    if not detected.dataset.get("group_columns"):
        return rows.groupby("label_name").size()
    # Cells without an image are filled too.
    return rows.groupby(["label_name", "group"]).size().unstack(fill_value=0).stack()


def minutes(detected: DetectedDataset) -> float:
    """A rough estimate of the run time on two cores without a GPU, from the start to the report."""
    counts = training_counts(detected)
    area = (generator_size(detected.rows) / 32) ** 2
    synthetic = (fill_target(counts) - counts).clip(lower=0).sum()
    seconds = SECONDS["autoencoder"] * AUTOENCODER_STEPS + SECONDS["denoiser"] * DENOISER_STEPS
    seconds += SECONDS["image"] * synthetic
    if is_pretrained(detected.rows):
        images = detected.rows["usable"].sum() + synthetic
        return (area * seconds + SECONDS["features"] * images + SECONDS["constant"]) / 60
    seconds += 3 * SECONDS["classifier"] * STAGE1_STEPS
    return (area * seconds + SECONDS["constant"]) / 60


def names_text(rows: pd.DataFrame, group_columns: list[str]) -> str:
    """CSV with the columns label and name, and a row for every class and every value of a group column."""
    labels = list(rows.sort_values("label")["label_name"].loc[lambda names: names != ""].unique())
    labels += sorted({value for values in rows["attributes"] for value in values} if group_columns else ())
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["label", "name"])
    writer.writerows([label, re.sub(r"[_\s]+", " ", label).strip() or label] for label in dict.fromkeys(labels))
    return buffer.getvalue()


def describe(detected: DetectedDataset) -> str:
    """The data set in some lines for the terminal."""
    rows, usable = detected.rows, detected.rows[detected.rows["usable"]]
    counts = usable.groupby(["label_name", "split"]).size().unstack(fill_value=0)
    train = detected.dataset.get("train_split", "train")
    held_out = [split for split in counts.columns if split != train]
    counts = counts[[train, *held_out]].sort_values(train, ascending=False, kind="stable")
    lines = [f"{detected.dataset['path']}: {len(rows):,} images in {len(counts)} classes"]
    lines += [f"  {note}" for note in detected.notes]
    lines += ["", *_counts_lines(counts), ""]
    lines.append(f"  largest class / smallest class: {counts[train].max() / counts[train].min():.3g}")
    if detected.dataset.get("group_columns"):
        sizes = training_counts(detected)
        lines.append(
            f"  {len(sizes)} cells (class and group) in {train!r}, with {sizes.min():,} to {sizes.max():,} images"
        )
    untested = [name for name in counts.index if not counts.loc[name, held_out[0]]] if held_out else []
    if untested:
        lines.append(f"  {_number_of(len(untested), 'class')} without a test image, e.g. {untested[0]!r}")
    side = usable[["width", "height"]].min(axis=1)
    lines.append(
        f"  shorter side: {side.min()} to {side.max()} pixels, median {side.median():.0f}; "
        f"images are resized to {PRETRAINED_SIZE if is_pretrained(rows) else SIZES[0]}"
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
    return "\n".join(lines + [f"  {line}" for line in _faults(rows, usable)])


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
        lines.append(f"{_number_of(len(of_reason), 'file')} not used: {reason}: {of_reason['path'].iloc[0]}")
    duplicates = [images for _, images in usable[usable.duplicated("sha256", keep=False)].groupby("sha256")]
    if duplicates:
        lines.append(f"{_number_of(len(duplicates), 'image')} more than once (identical files)")
    in_splits = [images["path"] for images in duplicates if images["split"].nunique() > 1]
    if in_splits:
        lines.append(
            f"{_number_of(len(in_splits), 'image')} in more than one split, which makes results too good; "
            f"remove one of {', '.join(in_splits[0].iloc[:2])}"
        )
    in_classes = [images["path"] for images in duplicates if images["label_name"].nunique() > 1]
    if in_classes:
        lines.append(
            f"{_number_of(len(in_classes), 'image')} in more than one class, e.g. {', '.join(in_classes[0].iloc[:2])}"
        )
    return lines


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


def config_text(name: str, detected: DetectedDataset, names: str) -> str:
    """The config as commented YAML. names: path of the file with the words for the classes."""
    counts, size, color = training_counts(detected), generator_size(detected.rows), "grey" if detected.grey else "rgb"
    images = int(counts.sum())
    target, largest = fill_target(counts), int(counts.max())
    balance = "  strategy: largest"
    if target < largest:
        balance = (
            f"  # The largest has {largest:,}. To fill all to this takes more than {MAX_SYNTHETIC:,} images.\n"
            f"  # With a GPU: `strategy: largest`, without a target.\n  strategy: fixed\n  target: {target}"
        )
    batch = max(2, min(64, 1 << images.bit_length() - 1))  # a power of two
    groups = ", {group}" if detected.dataset.get("group_columns") else ""
    results = f"results/{name}"
    about_size = "for all networks. Both `size` below are the same. The run time grows with its square."
    image_size = size
    network = """\
  # A small network, trained from scratch, because the images have at most 32 pixels.
  width: 24"""
    if is_pretrained(detected.rows):
        image_size = PRETRAINED_SIZE
        about_size = f"for the classifier. Synthetic images have {size} pixels (`size` below) and are enlarged."
        network = """\
  # EfficientNet-Lite0 with its ImageNet weights, which are installed with synaug. Only its last layer is trained, on
  # features that are computed once for each image. It is far better than a small network that has seen only these
  # images. To train such a network instead: `width: 24` in place of the next three lines, and a smaller image_size.
  backbone: timm/tf_efficientnet_lite0
  pretrained: embedded
  freeze: backbone"""
    return f"""\
# {images:,} training images in {detected.rows["label"].max() + 1} classes. config.yaml explains every key.
#     snakemake --cores all --configfile {name}.yaml
experiment: {_yaml_value(name)}
dataset:
{_yaml_block(detected.dataset)}
  # Side of the square images {about_size}
  image_size: {image_size}
  color: {color}
prompts:
  templates:
    - a photo of a {{label}}{groups}
  # The words for the classes. Write words that describe a class to a stranger: a public model knows no others.
  names: {_yaml_value(names)}
balance:
  # The number of images to which every class{" in every group" if groups else ""} is filled.
{balance}
# A small generator, trained on these images only. With a GPU: 4000 and 20000 steps or more.
generator:
  images: {results}/real.parquet
  output: {results}/generator
  size: {size}
  color: {color}
  autoencoder_steps: {AUTOENCODER_STEPS}
  denoiser_steps: {DENOISER_STEPS}
  sampling: square_root
  batch_size: {batch}
generation:
  model: {results}/generator
  size: {size}
  steps: 8
  guidance: 2.0
  batch_size: 100
# For classes that a public model knows, and a GPU with 6 GB or more: replace the two blocks above by this one, and
# raise image_size.
# generation:
#   model: stable-diffusion-v1-5/stable-diffusion-v1-5
#   revision: 451f4fe16113bff5a5d2269ed5ad43b0592e9a14
#   scheduler: DPMSolverMultistepScheduler
#   size: 512
#   steps: 20
#   guidance: 2.0
#   dtype: float16
#   licence: CreativeML Open RAIL-M
training:
  # Both recipes have the same budget. More steps take longer and help both.
  steps: {STAGE1_STEPS}
{network}
  batch_size: {batch}
recipes:
  # The imbalanced real images as they are.
  real:
    data: real
  # The balanced set: Mixup between real and synthetic images, then the last layer is fine-tuned on real images.
  synaug:
    data: balanced
    stage1:
      mixup:
        alpha: 0.2
    stage2: {{}}
# Every recipe is trained once with each seed. The intervals in the report are over the seeds.
seeds: [0, 1, 2]
"""


def init(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of images (<class>/<image>), or a table.")],
    name: Annotated[str | None, typer.Option(help="Name of the experiment.  [default: that of the folder]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    image: Annotated[str | None, typer.Option(help="Column of a table with the images or their paths.")] = None,
    label: Annotated[str | None, typer.Option(help="Column with the class.")] = None,
    split: Annotated[str | None, typer.Option(help="Column with the split.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Column with groups; can be repeated.")] = None,
) -> None:
    """Inspect your images and write a config for them.

    Prints classes, counts, sizes, broken files and duplicates, and writes the config to the current folder.

    \b
    Example:
      synaug init photos --name flowers
    """
    print(write_config(path, name, force, image, label, split, group))
