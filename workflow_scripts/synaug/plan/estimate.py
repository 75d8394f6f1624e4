"""What a plan costs before it is carried out: images to make, shards, device time and disk, class by class.

Nothing is guessed: the time comes from shards that were made in the same way, as the files beside them tell, and where
there is none, that is said.
"""

import json
import logging
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from synaug.manifests import with_group

log = logging.getLogger(__name__)

# What decides how long an image takes. Guidance counts too, but only whether there is any: it doubles the work.
_PACE = ["pipeline", "model_version", "adapters", "scheduler", "steps", "guidance", "strength", "size", "dtype"]
# What decides how many bytes it has.
_FORM = ["stored_size", "color", "format"]
# Bytes per row beside the pixels: hash, id, seed, provenance. Some 300 were measured; an upper bound needs more.
_BESIDES = 1000


@dataclass(frozen=True)
class Speed:
    """A measured speed: seconds of one device per image, and per shard beside sampling (load, copy, write)."""

    per_image: float
    per_shard: float
    images: int
    device: str


@dataclass(frozen=True)
class Size:
    """Bytes per stored image, from `images` stored ones; 0: an upper bound from the raw pixels."""

    per_image: float
    images: int


def stored_files(results: Path) -> list[Path]:
    """The files with synthetic images of all experiments, shards and others. results: the folder of experiments.

    unseen.parquet: the name of probe_images.parquet in version 0.1.
    """
    names = ("shards/*", "preview", "probe_images", "unseen")
    return sorted(file for name in names for file in results.glob(f"*/{name}.parquet"))


def stored_ids(files: Iterable[Path]) -> set[str]:
    """The image_ids in shards; a file that cannot be read is passed over."""
    return {image_id for file in files for image_id in _columns(file, ["image_id"])["image_id"]}


def measured_speed(plan: pd.DataFrame, results: Path) -> Speed | None:
    """How fast images like those of `plan` were made, by the device that made the newest; None: nothing measured.

    Read from results/*/costs/<shard>.json (preview: results/*/preview.json; keys images_sampled, seconds_sampling,
    seconds) of shards with the same model, adapters, scheduler, steps, guidance or none, size and type.
    """
    wanted, found = _pace(plan), []
    for file in stored_files(results):
        shard = file.parent.name == "shards"
        cost = file.parent.parent / "costs" / f"{file.stem}.json" if shard else file.with_suffix(".json")
        try:
            told = json.loads(cost.read_text())
            one = {key: float(told[key]) for key in ("images_sampled", "seconds_sampling", "seconds")}
            one["changed"] = cost.stat().st_mtime_ns
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s: passed over: %s", cost, error)
            continue
        rows = _columns(file, [*_PACE, "device", "batch_size"])
        # Images that were only copied together say nothing.
        if one["images_sampled"] > 0 and one["seconds_sampling"] > 0 and _pace(rows) == wanted:
            # The last batch is as large as the others, and some of it is thrown away: dear for a preview of few images.
            batch = rows["batch_size"].max()
            one["slots"] = ceil(one["images_sampled"] / batch) * batch
            found.append(one | {"device": rows["device"].mode()[0]})
    if not found:
        return None
    table = pd.DataFrame(found)
    device = table.loc[table["changed"].idxmax(), "device"]
    table = table[table["device"] == device]
    return Speed(
        per_image=float(table["seconds_sampling"].sum() / table["slots"].sum()),
        per_shard=float((table["seconds"] - table["seconds_sampling"]).clip(lower=0).mean()),
        images=int(table["images_sampled"].sum()),
        device=device,
    )


def stored_size(plan: pd.DataFrame, results: Path) -> Size:
    """Bytes per image of stored images of the same size, colour and format as those of `plan`."""
    form = plan[_FORM].iloc[0].tolist()
    size = images = 0
    for file in stored_files(results):
        rows = _columns(file, _FORM)
        if len(rows) and (rows == form).all(axis=None):
            # Without the file's footer, which is nothing in a full shard and much in a preview.
            groups = pq.read_metadata(file)
            size += sum(
                groups.row_group(i).column(j).total_compressed_size
                for i in range(groups.num_row_groups)
                for j in range(groups.num_columns)
            )
            images += len(rows)
    if images:
        return Size(size / images, images)
    pixels = plan["stored_size"].iloc[0] ** 2 * (1 if plan["color"].iloc[0] == "grey" else 3)
    return Size(float(pixels + _BESIDES), 0)


def cost_table(plan: pd.DataFrame, cells: pd.DataFrame, stored: set[str], speed: Speed | None, size: Size):
    """One row per cell: real, synthetic, exist, to_make, shards, seconds (NaN: not known), bytes, prompts, example.

    plan: manifest of this name. cells: these rows of the manifest `imbalance`. stored: ids that need not be made.
    `seconds` leaves out what a shard costs beside its images, since shards are shared between classes.
    """
    plan, cells = with_group(plan), with_group(cells).sort_values(["label", "group"])
    planned = plan.assign(there=plan["image_id"].isin(stored)).groupby(["label_name", "group"])
    table = cells.set_index(["label_name", "group"])[["count"]].rename(columns={"count": "real"})
    table["synthetic"] = planned.size()
    table["exist"] = planned["there"].sum()
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


def cost_text(plan: pd.DataFrame, cells: pd.DataFrame, results: Path) -> str:
    """The table and totals as text for a terminal; lines of classes are as long as their example prompt.

    plan, cells: as in `cost_table`. results: the folder of all experiments.
    """
    if plan.empty:
        return "No class lacks images: nothing to make."
    stored = stored_ids(stored_files(results))
    speed, size = measured_speed(plan, results), stored_size(plan, results)
    table = cost_table(plan, cells, stored, speed, size)
    # A shard whose images all exist is put together in a moment.
    jobs = plan.loc[~plan["image_id"].isin(stored), "shard"].nunique()
    sums = table[["real", "synthetic", "exist", "to_make", "seconds", "bytes"]].sum()
    if speed:
        sums["seconds"] += jobs * speed.per_shard
    total = {**sums, "label_name": "all", "shards": plan["shard"].nunique(), "prompts": plan["prompt"].nunique()}
    rows = [_cells(row, speed, size) for row in [*table.to_dict("records"), total | {"example": ""}]]
    header = ["class", "real", "synthetic", "exist", "to make", "shards", "device time", "disk", "prompts", "example"]
    return "\n".join([_how(plan), "", *_aligned([header, *rows]), "", *_notes(speed, size, sums, jobs)])


def _how(plan: pd.DataFrame) -> str:
    first = plan.iloc[0]
    steps, guidance = (", ".join(f"{one:g}" for one in sorted(plan[name].unique())) for name in ("steps", "guidance"))
    return (
        f"{first['model']}: {steps} steps, guidance {guidance}, {first['size']} px, "
        f"stored as {first['stored_size']} px {first['color']} {first['format']}"
    )


def _cells(row: dict, speed: Speed | None, size: Size) -> list[str]:
    example = row["example"] if isinstance(row["example"], str) else ""
    return [
        row["label_name"],
        *(f"{int(row[name]):,}" for name in ("real", "synthetic", "exist", "to_make", "shards")),
        "-" if not row["to_make"] else _duration(row["seconds"]) if speed else "?",
        "-" if not row["synthetic"] else ("" if size.images else "< ") + _bytes(row["bytes"]),
        f"{int(row['prompts']):,}",
        example,
    ]


def _notes(speed: Speed | None, size: Size, sums: pd.Series, jobs: int) -> list[str]:
    made = f"{int(sums['to_make']):,} images in {jobs:,} shard{'s' * (jobs != 1)}"
    if not sums["to_make"]:
        time = "Device hours: 0; all images exist already."
    elif speed:
        time = (
            f"Device hours: {sums['seconds'] / 3600:.2g} for {made}, if it goes on as for {speed.images:,} images on "
            f"{speed.device}: {1 / speed.per_image:.3g} images/s, and {speed.per_shard:.1f} s per shard beside that."
        )
    else:
        time = (
            f"Device hours: not known for {made}: none was made with this model, size and steps yet. "
            "`snakemake --cores 1 preview` makes 4 images of every class and measures it."
        )
    if size.images:
        disk = f"Disk: {_bytes(size.per_image)} per image, the mean of {size.images:,} of this size and format."
    else:
        disk = (
            f"Disk: at most {_bytes(size.per_image)} per image, as raw pixels; none of this size and format is stored."
        )
    shards = "Classes that lack few images share shards. The example is the first prompt of a class."
    return [line for note in (time, disk, shards) for line in textwrap.wrap(note, 110)]


def _aligned(rows: list[list[str]]) -> list[str]:
    """Columns side by side: the first and the last one flush left, the others flush right."""
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


def _pace(rows: pd.DataFrame) -> set[tuple]:
    """The ways in which `rows` were sampled, as far as they decide the time."""
    kinds = rows[_PACE].drop_duplicates()
    kinds = kinds.assign(guidance=kinds["guidance"] > 1, strength=kinds["strength"].fillna(1.0).astype(float))
    return set(kinds.itertuples(index=False, name=None))


def _columns(file: Path, names: list[str]) -> pd.DataFrame:
    try:
        table = pq.read_table(file, columns=names, partitioning=None)
        return pd.DataFrame({name: table.column(name).to_pylist() for name in names})
    except Exception as error:
        log.warning("%s: passed over: %s", file, error)
        return pd.DataFrame(columns=names)
