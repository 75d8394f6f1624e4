"""`synaug init`: from a folder of images, or a table, to a config that runs."""

import csv
import io
import json
import re
from pathlib import Path

import pandas as pd
import yaml

from synaug.config import load_config
from synaug.datasets.detect import COLOR_SAMPLE, DetectedDataset, detect
from synaug.runtime.errors import UserError

SIZES = (32, 64)  # sides of images, pixels, for which a generator can be trained without a GPU
STAGE1_STEPS = 600
AUTOENCODER_STEPS, DENOISER_STEPS = 1000, 1500
MOST_SYNTHETIC = 20_000  # images: about five minutes of two cores at 32 pixels
SHOWN = 12  # classes of the list on the terminal
# Seconds of two cores without a GPU at 32 pixels, to say how long it will take: an optimiser step of the two parts of
# the generator, a synthetic image, a step of the classifier (six networks, two at a time), and what is the same always.
SECONDS = {"autoencoder": 0.15, "denoiser": 0.45, "image": 0.016, "classifier": 0.04, "rest": 90}


def init(
    path: Path,
    name: str | None = None,
    force: bool = False,
    image: str | None = None,
    label: str | None = None,
    split: str | None = None,
    groups: list[str] | None = None,
) -> str:
    """Look at the images at `path` and write `<name>.yaml` and `<name>_names.csv` into the current folder.

    name: of the experiment; None: that of the folder. image, label, split, groups: columns of a table; None: the usual
    ones. Returns what was found and what to do next, to be printed. Raises UserError if the data cannot be used, or if
    one of the files exists, unless `force`.
    """
    name = name or _name(path)
    config, names = Path(f"{name}.yaml"), Path(f"{name}_names.csv")
    for file in (config, names):
        if file.exists() and not force:
            raise UserError(f"{file}: exists already; give --force to replace it, or another --name")
    found = detect(path, image, label, split, groups or [])
    text = config_text(name, found, str(names))
    load_config(yaml.safe_load(text), str(config))
    names.write_text(names_text(found.rows, found.dataset.get("group_columns", [])), encoding="utf-8")
    config.write_text(text, encoding="utf-8")
    here = (
        ""
        if Path("Snakefile").is_file()
        else "\nThere is no Snakefile here: call synaug in the folder of the workflow."
    )
    return (
        f"{describe(found)}\n\nWrote {config}, the experiment, and {names}, the words for the classes in prompts. "
        f"Both are meant to be edited.{here}\nNext:\n\n    snakemake --cores all --configfile {config}\n\n"
        f"It trains a small generator on these images: about {minutes(found):.0f} minutes on two cores without a GPU. "
        f"The report will be results/{name}/report.html."
    )


def _name(path: Path) -> str:
    """A name for the experiment that is allowed for one, and says where it comes from."""
    stem = path.resolve().stem if path.is_file() else path.resolve().name
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("._-") or "mine"


def image_size(rows: pd.DataFrame) -> int:
    """The largest of SIZES that half of the usable images have on their shorter side; the smallest at least."""
    usable = rows[rows["usable"]]
    median = usable[["width", "height"]].min(axis=1).median()
    return max((size for size in SIZES if size <= median), default=SIZES[0])


def target(counts: pd.Series) -> int:
    """Images that every class is filled to: as many as the largest has, unless that makes more than MOST_SYNTHETIC."""
    low, high = 1, int(counts.max())
    while low < high:
        middle = (low + high + 1) // 2
        fits = (middle - counts).clip(lower=0).sum() <= MOST_SYNTHETIC
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def cells(found: DetectedDataset) -> pd.Series:
    """Usable training images by class (and group)."""
    train = found.dataset.get("train_split", "train")
    rows = found.rows[(found.rows["split"] == train) & found.rows["usable"]]
    if not found.dataset.get("group_columns"):
        return rows.groupby("label_name").size()
    # Cells that no image has are filled too.
    return rows.groupby(["label_name", "group"]).size().unstack(fill_value=0).stack()


def minutes(found: DetectedDataset) -> float:
    """Of two cores without a GPU, from nothing to the report; a rough figure."""
    counts = cells(found)
    area = (image_size(found.rows) / 32) ** 2
    synthetic = (target(counts) - counts).clip(lower=0).sum()
    work = SECONDS["autoencoder"] * AUTOENCODER_STEPS + SECONDS["denoiser"] * DENOISER_STEPS
    work += SECONDS["image"] * synthetic + 3 * SECONDS["classifier"] * STAGE1_STEPS
    return (area * work + SECONDS["rest"]) / 60


def names_text(rows: pd.DataFrame, group_columns: list[str]) -> str:
    """CSV with the columns label and name: a row for every class, and every value of a group."""
    labels = list(rows.sort_values("label")["label_name"].loc[lambda names: names != ""].unique())
    labels += sorted({value for values in rows["attributes"] for value in values} if group_columns else ())
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["label", "name"])
    writer.writerows([label, re.sub(r"[_\s]+", " ", label).strip() or label] for label in dict.fromkeys(labels))
    return buffer.getvalue()


def describe(found: DetectedDataset) -> str:
    """What was found, for the terminal."""
    rows, usable = found.rows, found.rows[found.rows["usable"]]
    counts = usable.groupby(["label_name", "split"]).size().unstack(fill_value=0)
    train = found.dataset.get("train_split", "train")
    held_out = [split for split in counts.columns if split != train]
    counts = counts[[train, *held_out]].sort_values(train, ascending=False, kind="stable")
    lines = [f"{found.dataset['path']}: {len(rows):,} images in {len(counts)} classes"]
    lines += [f"  {note}" for note in found.notes]
    width = max(map(len, counts.index.astype(str)))
    lines += ["", f"  {'images per class':{width}}" + "".join(f"  {split:>10}" for split in counts.columns)]
    shown = range(len(counts))
    if len(counts) > SHOWN:
        shown = [*range(SHOWN // 2), None, *range(len(counts) - SHOWN // 2, len(counts))]
    for i in shown:
        if i is None:
            lines.append(f"  ... {len(counts) - SHOWN} classes between")
        else:
            lines.append(f"  {counts.index[i]:{width}}" + "".join(f"  {count:>10,}" for count in counts.iloc[i]))
    lines += ["", f"  largest class / smallest class: {counts[train].max() / counts[train].min():.3g}"]
    if found.dataset.get("group_columns"):
        sizes = cells(found)
        lines.append(
            f"  {len(sizes)} cells of class and group in {train!r}, of {sizes.max():,} to {sizes.min():,} images"
        )
    untested = [name for name in counts.index if not counts.loc[name, held_out[0]]] if held_out else []
    if untested:
        lines.append(f"  {_count(len(untested), 'class')} without a test image, e.g. {untested[0]!r}")
    side = usable[["width", "height"]].min(axis=1)
    size = image_size(rows)
    lines.append(
        f"  shorter side: {side.min()} to {side.max()} pixels, half of them {side.median():.0f} or more; used: {size}"
    )
    if all(re.fullmatch(r"\d+", name) for name in counts.index):
        lines.append("  the classes are numbers; a public model has to be told what they are, see the names below")
    modes = ", ".join(f"{count} {mode}" for mode, count in found.modes.most_common())
    color = "no colours, so grey" if found.grey else "rgb"
    lines.append(f"  pixels: {color} ({modes}{f', of {COLOR_SAMPLE} looked at' if len(usable) > COLOR_SAMPLE else ''})")
    if found.transparent:
        lines.append(f"  {found.transparent} of them are transparent in places, which become white")
    if found.animated:
        lines.append(f"  {found.animated} of them hold several pictures; the first counts")
    return "\n".join(lines + [f"  {line}" for line in _faults(rows, usable)])


def _faults(rows: pd.DataFrame, usable: pd.DataFrame) -> list[str]:
    """Lines about images that cannot be used and about copies."""
    lines = []
    for reason, some in rows[~rows["usable"]].groupby("reason"):
        lines.append(f"{_count(len(some), 'file')} not used: {reason}: {some['path'].iloc[0]}")
    copies = usable[usable.duplicated("sha256", keep=False)].groupby("sha256")
    if len(copies):
        lines.append(f"{_count(len(copies), 'image')} more than once (the very same file)")
    across = [some for _, some in copies if some["split"].nunique() > 1]
    if across:
        lines.append(
            f"{_count(len(across), 'image')} in more than one split, which makes results too good; remove one of "
            f"{', '.join(across[0]['path'].iloc[:2])}"
        )
    torn = [some for _, some in copies if some["label_name"].nunique() > 1]
    if torn:
        lines.append(f"{_count(len(torn), 'image')} in more than one class, e.g. {', '.join(torn[0]['path'].iloc[:2])}")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 'es' if what.endswith('s') else 's'}"


def _block(values: dict) -> str:
    """Lines of YAML for the block `dataset`."""
    return "\n".join(f"  {key}: {_scalar(value)}" for key, value in values.items())


def _scalar(value: object) -> str:
    """As one writes it by hand where that is safe; otherwise as JSON, which is YAML whatever a text holds."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(key)}: {_scalar(one)}" for key, one in value.items()) + "}"
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_/.][\w/.-]*", value) and yaml.safe_load(value) == value
    return value if plain else json.dumps(value, ensure_ascii=False)


def config_text(name: str, found: DetectedDataset, names: str) -> str:
    """The config, with comments, as YAML."""
    counts, size, color = cells(found), image_size(found.rows), "grey" if found.grey else "rgb"
    images = int(counts.sum())
    filled, largest = target(counts), int(counts.max())
    balance = "  strategy: largest"
    if filled < largest:
        balance = (
            f"  # The largest has {largest:,}: to that size, more than {MOST_SYNTHETIC:,} images would be missing.\n"
            f"  # With a GPU: `strategy: largest`, without a target.\n  strategy: fixed\n  target: {filled}"
        )
    batch = max(2, min(64, 1 << images.bit_length() - 1))
    groups = ", {group}" if found.dataset.get("group_columns") else ""
    results = f"results/{name}"
    return f"""\
# {images:,} training images in {found.rows["label"].max() + 1} classes. config.yaml explains every key.
#     snakemake --cores all --configfile {name}.yaml
experiment: {_scalar(name)}
dataset:
{_block(found.dataset)}
  # Side of the square images that everything is trained on, as `size` twice below. Time goes with its square.
  image_size: {size}
  color: {color}
prompts:
  templates:
    - a photo of a {{label}}{groups}
  # The words for the classes. Write there what a stranger would call them: a public model goes by it.
  names: {_scalar(names)}
balance:
  # How far every class{" in every group" if groups else ""} is filled.
{balance}
# A small generator, trained on these images alone. With a GPU: 4000 and 20000 steps or more.
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
# For things that a public model knows, and a GPU with 6 GB or more: remove the two blocks above, take this one, and
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
  width: 24
  batch_size: {batch}
recipes:
  # The imbalanced data as they are,
  real:
    data: real
  # and filled: real and synthetic images mixed, then the last layer once more on real ones.
  synaug:
    data: balanced
    stage1:
      mixup:
        alpha: 0.2
    stage2: {{}}
# Every recipe is trained once with each; the report's intervals are over them.
seeds: [0, 1, 2]
"""
