"""The cost of a plan before it is carried out: images to make, shards, device time and disk space, per class.

The time comes from measurements of images that were made with the same settings. Without such images no time is given.
"""

import json
import logging
import os
import textwrap
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from synaug.generation.existing import stored_ids
from synaug.manifests import count_rows, read_table, to_frame, with_fill, with_group
from synaug.plan.compiling import SPEED_UP, compile_cost, steps_done
from synaug.plan.licences import licence_warnings
from synaug.plan.model_family import Family, read_family
from synaug.plan.shards import files_with_images
from synaug.runtime.errors import UserError
from synaug.runtime.files import check_regular_file

log = logging.getLogger(__name__)

# The columns that decide how long an image takes. Of guidance and strength only part counts: see `_speed_settings`.
_SPEED_COLUMNS = [
    "pipeline",
    "model_version",
    "adapters",
    "scheduler",
    "steps",
    "guidance",
    "strength",
    "size",
    "dtype",
]
# The columns that decide how many bytes an image has.
_SIZE_COLUMNS = ["stored_size", "color", "format"]
# Columns of the plan that the estimate needs, as well as those that tell images and cells apart.
_REPEATED = [*dict.fromkeys(["shard", "prompt", "model", *_SPEED_COLUMNS, *_SIZE_COLUMNS])]
_OF_IMAGES = ["image_id", "label", "label_name", "group", "fill", "index"]
# An upper bound for the bytes of a row without its pixels: hash, id, seed, provenance. About 300 were measured.
_ROW_OVERHEAD = 1000


@dataclass(frozen=True)
class Speed:
    """A measured speed: device seconds per image, and per shard in addition to sampling (loading, copying, writing).

    compiled: whether the model was compiled for these images.
    """

    per_image: float
    per_shard: float
    images: int
    device: str
    compiled: bool

    @property
    def per_image_not_compiled(self) -> float:
        """`per_image` if the model were not compiled."""
        return self.per_image * (SPEED_UP if self.compiled else 1)


@dataclass(frozen=True)
class Size:
    """Bytes per stored image, measured on `images` stored images; 0: an upper bound from the raw pixels."""

    per_image: float
    images: int


def read_plan(path: str | os.PathLike) -> pd.DataFrame:
    """The columns of the manifest `plan` at `path` that the estimate needs.

    Texts that repeat are categories: written out, those of millions of images would not fit into memory.
    """
    table = read_table("plan", path, [*_OF_IMAGES, *_REPEATED])
    return to_frame(table.select(_OF_IMAGES)).join(table.select(_REPEATED).to_pandas())


def measured_speed(plan: pd.DataFrame, results: Path) -> Speed | None:
    """How fast images like those of `plan` were made on the device that was used last; None: no measurement.

    If some were made with a compiled model and others without, those that were made last count.
    Read from results/*/costs/<shard>.json (preview: results/*/preview.json; keys images_sampled, seconds_sampling,
    seconds) of images with the same model, adapters, scheduler, steps, size and dtype, and equally with or without
    classifier-free guidance.
    """
    family, measurements = _family(plan), []
    settings = _speed_settings(plan, family)
    for file in files_with_images(results.glob("*")):
        is_shard = file.parent.name == "shards"
        cost_file = file.parent.parent / "costs" / f"{file.stem}.json" if is_shard else file.with_suffix(".json")
        try:
            check_regular_file(cost_file)
            cost = json.loads(cost_file.read_text())
            measured = {key: float(cost[key]) for key in ("images_sampled", "seconds_sampling", "seconds")}
            measured["changed"] = cost_file.stat().st_mtime_ns
        except FileNotFoundError:
            continue
        except (UserError, OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s: skipped: %s", cost_file, error)
            continue
        rows = _different_rows(file, [*_SPEED_COLUMNS, "device", "batch_size", "libraries"])
        # A file whose images were all copied has no speed.
        if (
            measured["images_sampled"] > 0
            and measured["seconds_sampling"] > 0
            and _speed_settings(rows, family) == settings
        ):
            # The last batch is padded to full size, which makes a preview of few images slow per image: count the
            # padding, too.
            batch = rows["batch_size"].max()
            measured["images_with_padding"] = ceil(measured["images_sampled"] / batch) * batch
            device, libraries = (rows.groupby(name)["rows"].sum().idxmax() for name in ("device", "libraries"))
            measurements.append(measured | {"device": device, "compiled": "compiled" in libraries})
    if not measurements:
        return None
    table = pd.DataFrame(measurements)
    device, compiled = table.loc[table["changed"].idxmax(), ["device", "compiled"]]
    table = table[(table["device"] == device) & (table["compiled"] == compiled)]
    return Speed(
        per_image=float(table["seconds_sampling"].sum() / table["images_with_padding"].sum()),
        per_shard=float((table["seconds"] - table["seconds_sampling"]).clip(lower=0).mean()),
        images=int(table["images_sampled"].sum()),
        device=device,
        compiled=bool(compiled),
    )


def stored_size(plan: pd.DataFrame, results: Path) -> Size:
    """Bytes per image, from stored images of the same size, colour and format as those of `plan`.

    Finished batches count as well as shards.
    """
    settings = plan[_SIZE_COLUMNS].iloc[0].tolist()
    size = images = 0
    for file in [*files_with_images(results.glob("*")), *results.glob("*/work/*/*.parquet")]:
        rows = _different_rows(file, _SIZE_COLUMNS)
        if rows[_SIZE_COLUMNS].to_numpy().tolist() == [settings]:
            # Without the footer of the file: negligible in a full shard, but not in a preview.
            groups = pq.read_metadata(file)
            size += sum(
                groups.row_group(i).column(j).total_compressed_size
                for i in range(groups.num_row_groups)
                for j in range(groups.num_columns)
            )
            images += int(rows["rows"].sum())
    if images:
        return Size(size / images, images)
    pixels = plan["stored_size"].iloc[0] ** 2 * (1 if plan["color"].iloc[0] == "grey" else 3)
    return Size(float(pixels + _ROW_OVERHEAD), 0)


def cost_table(plan: pd.DataFrame, cells: pd.DataFrame, stored: set[str], speed: Speed | None, size: Size):
    """One row per cell: real, synthetic, exist, to_make, shards, seconds (NaN: unknown), bytes, prompts, example.

    plan: manifest of this name. cells: the cell rows of the manifest `imbalance`. stored: ids of images that exist.
    `seconds` covers sampling only: what a shard costs in addition is not divided between the cells that share it.
    """
    plan, cells = with_group(plan), with_group(cells).sort_values(["label", "group"])
    planned = plan.assign(exists=plan["image_id"].isin(stored)).groupby(["label_name", "group"])
    table = cells.set_index(["label_name", "group"])[["count"]].rename(columns={"count": "real"})
    table["synthetic"] = planned.size()
    table["exist"] = planned["exists"].sum()
    table["shards"] = planned["shard"].nunique()
    table["prompts"] = planned["prompt"].nunique()
    table["example"] = planned["prompt"].first()
    numbers = ["synthetic", "exist", "shards", "prompts"]
    table[numbers] = table[numbers].fillna(0).astype(int)
    table["to_make"] = table["synthetic"] - table["exist"]
    table["seconds"] = table["to_make"] * (speed.per_image if speed else np.nan)
    table["bytes"] = table["synthetic"] * size.per_image
    table = table.reset_index()
    grouped = table["group"] != ""
    table["label_name"] = table["label_name"].where(~grouped, table["label_name"] + " | " + table["group"])
    return table.drop(columns="group")


def cost_text(plan: pd.DataFrame, cells: pd.DataFrame, results: Path, compile: bool | Literal["auto"] = False) -> str:
    """A table and its totals for each fill, as text for a terminal.

    A line is as long as the example prompt of its class.

    plan, cells: as in `cost_table`. results: the folder of all experiments. compile: the key of `generation`.
    """
    if plan.empty:
        return "No class lacks images, or the config has no generation.model: nothing to make."
    plan, texts = with_fill(plan), []
    speeds = {fill: measured_speed(of_fill, results) for fill, of_fill in plan.groupby("fill")}
    for fill, of_fill in plan.groupby("fill"):
        title = f"Fill {fill}: " if fill else ""
        compile_notes = _compile_notes(plan, fill, speeds) if compile == "auto" else []
        texts.append(title + _text_of_fill(of_fill, cells, results, speeds[fill], compile_notes))
    return "\n\n".join(texts)


def _text_of_fill(
    plan: pd.DataFrame, cells: pd.DataFrame, results: Path, speed: Speed | None, compile_notes: list[str]
) -> str:
    """`cost_text` of one fill. compile_notes: sentences about compiling its model."""
    stored, size = stored_ids(plan["image_id"], results), stored_size(plan, results)
    table = cost_table(plan, cells, stored, speed, size)
    # A shard whose images all exist takes almost no time.
    shards_to_make = plan.loc[~plan["image_id"].isin(stored), "shard"].nunique()
    sums = table[["real", "synthetic", "exist", "to_make", "seconds", "bytes"]].sum()
    if speed:
        sums["seconds"] += shards_to_make * speed.per_shard
    total = {
        **sums,
        "label_name": "all",
        "shards": plan["shard"].nunique(),
        "prompts": plan["prompt"].nunique(),
        "example": "",
    }
    rows = [_formatted(row, speed, size) for row in [*table.to_dict("records"), total]]
    header = ["class", "real", "synthetic", "exist", "to make", "shards", "device time", "disk", "prompts", "example"]
    notes = _notes(plan, speed, size, sums, shards_to_make, compile_notes)
    return "\n".join([_settings_line(plan), "", *_aligned([header, *rows]), "", *notes])


def _settings_line(plan: pd.DataFrame) -> str:
    first = plan.iloc[0]
    steps, guidance = (
        ", ".join(f"{value:g}" for value in sorted(plan[name].unique())) for name in ("steps", "guidance")
    )
    return (
        f"{first['model']}: {steps} steps, guidance {guidance}, {first['size']} px, "
        f"stored as {first['stored_size']} px {first['color']} {first['format']}"
    )


def _formatted(row: dict, speed: Speed | None, size: Size) -> list[str]:
    """The texts of one line of the table. row: of `cost_table`."""
    return [
        row["label_name"],
        *(f"{int(row[name]):,}" for name in ("real", "synthetic", "exist", "to_make", "shards")),
        "-" if not row["to_make"] else _duration(row["seconds"]) if speed else "?",
        "-" if not row["synthetic"] else ("" if size.images else "< ") + _bytes(row["bytes"]),
        f"{int(row['prompts']):,}",
        row["example"] if isinstance(row["example"], str) else "",  # NaN: the class has no planned image
    ]


def _notes(
    plan: pd.DataFrame,
    speed: Speed | None,
    size: Size,
    sums: pd.Series,
    shards_to_make: int,
    compile_notes: list[str],
) -> list[str]:
    work = f"{int(sums['to_make']):,} images in {shards_to_make:,} shard{'s' * (shards_to_make != 1)}"
    if not sums["to_make"]:
        time = "Device hours: 0; all images exist already."
    elif speed:
        time = (
            f"Device hours: {sums['seconds'] / 3600:.2g} for {work}, at the speed of {speed.images:,} images made on "
            f"{speed.device}{' (compiled)' if speed.compiled else ''}: {1 / speed.per_image:.3g} images/s, plus "
            f"{speed.per_shard:.1f} s per shard."
        )
    else:
        time = (
            f"Device hours: not known for {work}, because no shard or preview has this model, size and steps. "
            "`snakemake --cores 1 preview` makes 4 images of every class and measures the speed."
        )
    if size.images:
        disk = f"Disk: {_bytes(size.per_image)} per image, the mean of {size.images:,} images of this size and format."
    else:
        disk = (
            f"Disk: at most {_bytes(size.per_image)} per image, the size of raw pixels, because no image of this size "
            "and format is stored yet."
        )
    shards = "Classes that lack few images share shards. The example is the first prompt of a class."
    notes = [time, *compile_notes, disk, shards]
    if _family(plan) is None:
        notes.append(
            f"The kind of guidance of {plan['model'].iloc[0]} is not known, because its config files are not on "
            "this machine. This estimate assumes classifier-free guidance: values above 1 double the time."
        )
    notes += licence_warnings(plan)
    return [line for note in notes for line in textwrap.wrap(note, 110, break_on_hyphens=False)]


def _compile_notes(plan: pd.DataFrame, fill: str, speeds: dict[str, Speed | None]) -> list[str]:
    """Whether `auto` compiles the model of `fill`, as a list of no or one sentence. Nothing on a CPU: it never does.

    plan: all fills, since the jobs count all images of the model. speeds: of each fill.
    """
    speed, of_fill = speeds[fill], plan[plan["fill"] == fill]
    if speed is None:
        return [
            "generation.compile: auto: on an NVIDIA GPU, each job decides after a short trial whether compiling the "
            "model pays for the images of this plan."
        ]
    if speed.device.startswith(("cpu", "mps")):
        return []
    # Fills that were not measured on this device take as long for each step as this one.
    seconds = steps_done(plan) * (speed.per_image_not_compiled / steps_done(of_fill).mean())
    for name, other in speeds.items():
        if other and other.device == speed.device:
            seconds[plan["fill"] == name] = other.per_image_not_compiled
    model = of_fill["model_version"].iloc[0]
    cost = compile_cost(plan, model, seconds)
    fills = plan.loc[plan["model_version"] == model, "fill"].unique()
    which = f" (fills {' and '.join(fills)} together)" if len(fills) > 1 else ""
    return [f"generation.compile: auto: jobs {'compile' if cost.pays else 'do not compile'} the model: {cost}{which}."]


def _aligned(rows: list[list[str]]) -> list[str]:
    """Lines with aligned columns: the first and the last one flush left, the others flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    last = len(widths) - 1
    return [
        "  ".join(
            text.ljust(width) if i in (0, last) else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def _family(plan: pd.DataFrame) -> Family | None:
    """The family of the model of `plan`."""
    return read_family(plan["model"].iloc[0], plan["model_version"].iloc[0])


def _speed_settings(rows: pd.DataFrame, family: Family | None) -> set[tuple]:
    """The different settings in `rows` that decide how long an image takes. family: of the model, if it is known.

    Classifier-free guidance above 1 doubles the work, whatever its value; other guidance costs nothing. Without a
    strength (image-to-image) every step is done.
    """
    settings = rows[_SPEED_COLUMNS].drop_duplicates()
    doubles = family is None or family.guidance == "classifier-free"
    settings = settings.assign(
        guidance=(settings["guidance"] > 1) & doubles, strength=settings["strength"].fillna(1.0).astype(float)
    )
    return set(settings.itertuples(index=False, name=None))


def _different_rows(file: Path, names: list[str]) -> pd.DataFrame:
    """The different rows that columns of a shard have; a further column `rows` says how many images each stands for.

    Of a file that is damaged or lacks one of the columns, no rows.
    """
    try:
        check_regular_file(file)
        return _count_rows(file, tuple(names), file.stat().st_mtime_ns)
    except Exception as error:
        log.warning("%s: skipped: %s", file, error)
        return pd.DataFrame(columns=[*names, "rows"])


@cache  # every fill asks for the rows of all shards
def _count_rows(file: Path, names: tuple[str, ...], changed_ns: int) -> pd.DataFrame:
    """As `_different_rows`, of an intact file. changed_ns: its modification time, for the cache."""
    return count_rows("shard", file, names)
