"""The plan: one row per wanted synthetic image, with everything that decides its pixels.

The plan is a pure function of data and config. The seed of an image comes from (base seed, class, group, index), so a
cell that grows keeps the images it has. The id of an image is the hash of everything that decides its pixels, so an
image that exists in any experiment is not made again.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from synaug.config import Balance, Generation, Prompts
from synaug.manifests import read_manifest, with_group
from synaug.plan.checkpoints import adapters_json, is_local, model_version
from synaug.plan.model_family import check_generation
from synaug.plan.prompt_length import check_lengths, read_text_encoders
from synaug.plan.prompts import cell_prompts
from synaug.plan.shards import shard_name, shards_of_images
from synaug.plan.targets import planned_counts, shares_of_fill
from synaug.runtime.errors import UserError
from synaug.runtime.files import text_hash

# Raise it when a change to the sampling or encoding code changes pixels: it is part of every image_id.
SAMPLER_VERSION = 3


def plan_generation(
    imbalance: pd.DataFrame,
    *,
    balance: Balance,
    prompts: Prompts,
    generation: Generation,
    seed: int,
    image_size: int,
    color: str,
    version: str,
    adapters: str = "",
    sources: pd.DataFrame | None = None,
    group_columns: Sequence[str] = (),
    shares: Mapping[str, float] | None = None,
    pilot: int | None = None,
) -> pd.DataFrame:
    """Rows of the manifest `plan` for one fill.

    imbalance: the manifest of this name. seed: base of all seeds. image_size (pixels), color: of the stored images.
    version, adapters: from `model_version` and `adapters_json`. sources: for image-to-image, the real images to start
    from (columns image_id, label_name, group). group_columns: of the data set. shares: of the gate, see
    `wanted_counts`. pilot: at most this many images of each cell, the first ones.
    Raises UserError if a cell that needs sources has none.
    """
    cells = with_group(imbalance[imbalance["kind"] == "cell"]).sort_values(["label", "group"])
    counts = planned_counts(cells, balance, shares).clip(upper=pilot)
    prompts_of_cells = cell_prompts(prompts, cells, group_columns)
    same_for_all = {
        "pipeline": generation.pipeline,
        "model": generation.model,
        "model_version": version,
        "adapters": adapters,
        "scheduler": generation.scheduler_text,
        "strength": generation.strength,
        "size": generation.size,
        "stored_size": image_size,
        "color": color,
        "format": generation.format,
        "dtype": generation.dtype,
        "negative_prompt": prompts.negative,
        "sampler_version": SAMPLER_VERSION,
    }
    # A local model's path does not affect pixels: its contents do, and model_version is their hash.
    decides_all_pixels = same_for_all | {"model": None if is_local(version) else generation.model}
    # A newer key is part of an id only if it changes pixels, so that the ids of earlier versions remain.
    if generation.original_size not in (None, generation.size):
        decides_all_pixels["original_size"] = generation.original_size
    if generation.variant:  # the version is that of all files; the variant decides which of them are read
        decides_all_pixels["variant"] = generation.variant
    common_hash = text_hash(decides_all_pixels)
    pairs = generation.steps_and_guidance
    # What a cell lacks falls by `factor` with each real image: cells that grow together keep this phase.
    factor = balance.amount * balance.oversample
    phases = (cells["count"].to_numpy() * factor).round(6).astype(int)
    numbers = shards_of_images(counts.to_numpy(), phases, generation.images_per_shard)
    # Lists over all cells: building and joining one data frame per cell would take longer than the hashes.
    columns: dict[str, list] = {
        name: [] for name in ("index", "prompt", "seed", "steps", "guidance", "source_image", "image_id")
    }
    for position, (cell, count) in enumerate(zip(cells.itertuples(), counts, strict=True)):
        texts = prompts_of_cells[position]
        # Steps and guidance vary fastest, so that every prompt is used with each pair of them.
        image_prompts = [texts[i // len(pairs) % len(texts)] for i in range(count)]
        steps = [pairs[i % len(pairs)][0] for i in range(count)]
        guidance = [pairs[i % len(pairs)][1] for i in range(count)]
        seeds = image_seeds(seed, cell.label_name, range(count), cell.group)
        source_ids = [None] * count
        if sources is not None and count:
            source_ids = draw_sources(pd.Series(seeds), sources, cell.label_name, cell.group)
        decides_pixels = [image_prompts, seeds, steps, guidance, source_ids]
        ids = [text_hash(common_hash, *values)[:24] for values in zip(*decides_pixels, strict=True)]
        for name, values in zip(columns, [range(count), *decides_pixels, ids], strict=True):
            columns[name] += values
    ids_of_shard = pd.Series(columns["image_id"], dtype="object").groupby(numbers).agg(list)
    columns["shard"] = ids_of_shard.map(shard_name).reindex(numbers).tolist()
    plan = cells[["label", "label_name", "group"]].iloc[np.repeat(np.arange(len(cells)), counts)]
    plan = plan.reset_index(drop=True).assign(**columns)
    return plan.astype({"label": "int64", "shard": "str"}).assign(
        **same_for_all,
        original_size=generation.original_size or 0,
        variant=generation.variant or "",
        licence=generation.licence,
        truncate=prompts.truncate,
    )


def plan_from_settings(
    imbalance: pd.DataFrame,
    settings: dict,
    sources: pd.DataFrame | None,
    gate: pd.DataFrame | None = None,
    pilot: int | None = None,
) -> pd.DataFrame:
    """`plan_generation` of all fills, with the `settings` of the rule of that name (see rules/plan.smk): plain dicts.

    gate: the manifest of this name. pilot: see `plan_generation`.
    Raises UserError also if the settings do not suit the model, see `check_generation`, if its text encoder would cut a
    prompt, or if fills share images.
    """
    prompts = Prompts.model_validate(settings["prompts"])
    plans = []
    for name, values in (settings.get("fills") or {"": settings["generation"]}).items():
        generation = Generation.model_validate(values)
        check_generation(generation, prompts.negative)
        plan = plan_generation(
            imbalance,
            balance=Balance.model_validate(settings["balance"]),
            prompts=prompts,
            generation=generation,
            seed=settings["seed"],
            image_size=settings["image_size"],
            color=settings["color"],
            version=model_version(generation.model, generation.revision),
            adapters=adapters_json(generation.adapters),
            sources=sources if generation.pipeline == "image-to-image" else None,
            group_columns=settings.get("group_columns", ()),
            shares=shares_of_fill(gate, name),
            pilot=pilot,
        )
        if generation.pipeline != "class-conditional" and not prompts.truncate:
            texts = [*plan["prompt"].unique(), prompts.negative]
            check_lengths(texts, read_text_encoders(generation), generation.model)
        plans.append(plan.assign(fill=name))
    plan = pd.concat(plans, ignore_index=True)
    shared = plan[plan["image_id"].duplicated(keep=False)].drop_duplicates("fill")["fill"].tolist()
    if shared:
        # Their settings differ, but not what they stand for, as with two copies of one model.
        raise UserError(f"fills: {' and '.join(shared)} make the same images; leave one out")
    return plan


def read_sources(real: str, train_split: str) -> pd.DataFrame:
    """The rows of the manifest at `real` that image-to-image may start from: usable training images."""
    rows = read_manifest("real", real, ["image_id", "split", "label_name", "group", "usable"])
    return rows[(rows["split"] == train_split) & rows["usable"]]


def draw_sources(seeds: pd.Series, sources: pd.DataFrame, label_name: str, group: str = "") -> list[str]:
    """For each of `seeds` (one per image of a cell), the image_id of the real image in that cell to start from.

    Every pair of seed and real image has a hash, and the lowest hash wins (rendezvous hashing): if a real image is
    removed, only the synthetic images that started from it change.
    """
    sources = with_group(sources)
    ids = sorted(sources.loc[(sources["label_name"] == label_name) & (sources["group"] == group), "image_id"])
    if not ids:
        where = f" in group {group!r}" if group else ""
        raise UserError(
            f"class {label_name!r}{where}: has no real training image to start from; use pipeline: text-to-image for it"
        )
    keys = np.array([int(hashlib.sha256(image_id.encode()).hexdigest()[:16], 16) for image_id in ids], np.uint64)
    drawn = []
    # In chunks of about 4 million pairs, to bound the memory.
    for chunk in np.array_split(seeds.to_numpy(np.uint64), max(1, len(seeds) * len(ids) // 4_000_000)):
        mixed = chunk[:, None] ^ keys[None, :]
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # the mixer of splitmix64
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        drawn += (mixed ^ (mixed >> np.uint64(31))).argmin(axis=1).tolist()
    return [ids[i] for i in drawn]


def image_seeds(base: int, label_name: str, indices: Iterable[int], group: str = "") -> list[int]:
    """Seeds, 0 to 2^63 - 1, of the images `indices` of a cell: hashes of [base, label_name, group, index] as JSON.

    Without a group, its entry is omitted. Hashed so that no two cells or base seeds share a seed.
    """
    start = json.dumps([base, label_name, group] if group else [base, label_name])[:-1]
    digests = (hashlib.sha256(f"{start}, {index}]".encode()).digest() for index in indices)
    return [int.from_bytes(digest[:8], "big") >> 1 for digest in digests]
