"""The plan: one row per synthetic image that is wanted, with everything that decides its pixels.

It is a pure function of the data and the config. An image's seed comes from (base seed, class, index), so a class
that grows keeps the images it has; an image's id is the hash of all that decides its pixels, so an image that exists
anywhere need not be made again.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
import pandas as pd

from synaug.config import Balance, Generation, Prompts
from synaug.manifests import read_manifest, with_group
from synaug.plan.checkpoints import CONTENTS, adapters_text, model_version
from synaug.plan.prompts import cell_prompts
from synaug.plan.shards import _tail_slots, shard_name
from synaug.plan.targets import planned_counts
from synaug.runtime.errors import UserError
from synaug.runtime.files import text_hash

# Raise it when a change of the sampling or encoding code changes pixels: it is part of every image_id.
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
) -> pd.DataFrame:
    """Rows of the manifest `plan`.

    imbalance: the manifest of this name. seed: base of all seeds. image_size (pixels), color: of the stored images.
    version, adapters: from `model_version` and `adapters_text` of `synaug.plan.checkpoints`. sources: for
    image-to-image, the real images to start from (columns image_id, label_name, group). group_columns: of the data set.
    Raises UserError if a cell that needs sources has none.
    """
    cells = with_group(imbalance[imbalance["kind"] == "cell"]).sort_values(["label", "group"])
    planned = planned_counts(cells, balance)
    texts_of = cell_prompts(prompts, cells, group_columns)
    same = {
        "pipeline": generation.pipeline,
        "model": generation.model,
        "model_version": version,
        "adapters": adapters,
        "scheduler": generation.scheduler or "",
        "strength": generation.strength,
        "size": generation.size,
        "stored_size": image_size,
        "color": color,
        "format": generation.format,
        "dtype": generation.dtype,
        "negative_prompt": prompts.negative,
        "sampler_version": SAMPLER_VERSION,
    }
    # The name of a local folder decides no pixel: its contents do, and model_version is their hash.
    shared = text_hash({**same, "model": None if version.startswith(CONTENTS) else generation.model})
    variants = list(product(_as_list(generation.steps), _as_list(generation.guidance)))
    per_shard = generation.images_per_shard
    slots = _tail_slots(planned.to_numpy() % per_shard, per_shard)
    # Lists for all cells together: a data frame of each, and one of them all, would take longer than the hashes.
    names = ("index", "prompt", "seed", "steps", "guidance", "source_image", "image_id", "block")
    drawn: dict[str, list] = {name: [] for name in names}
    ids_of: dict[str, list[str]] = {}
    for position, (cell, count) in enumerate(zip(cells.itertuples(), planned, strict=True)):
        texts = texts_of[position]
        seeds = image_seeds(seed, cell.label_name, range(count), cell.group)
        said = [texts[i // len(variants) % len(texts)] for i in range(count)]
        # Steps and guidance vary fastest, so that every prompt meets each of them.
        steps = [variants[i % len(variants)][0] for i in range(count)]
        guidance = [float(variants[i % len(variants)][1]) for i in range(count)]
        starts = [None] * count
        if sources is not None and count:
            starts = draw_sources(pd.Series(seeds), sources, cell.label_name, cell.group)
        pixels = [said, seeds, steps, guidance, starts]
        ids = [text_hash(shared, *one)[:24] for one in zip(*pixels, strict=True)]
        whole = count - count % per_shard
        blocks = [f"{position}-{i // per_shard}" for i in range(whole)] + [f"tail-{slots[position]}"] * (count - whole)
        for block, one in zip(blocks, ids, strict=True):
            ids_of.setdefault(block, []).append(one)
        for name, values in zip(names, [range(count), *pixels, ids, blocks], strict=True):
            drawn[name] += values
    shards = {block: shard_name(ids) for block, ids in ids_of.items()}
    drawn["shard"] = [shards[block] for block in drawn.pop("block")]
    plan = cells[["label", "label_name", "group"]].iloc[np.repeat(np.arange(len(cells)), planned)]
    plan = plan.reset_index(drop=True).assign(**drawn)
    return plan.astype({"label": "int64", "shard": "str"}).assign(**same, licence=generation.licence)


def plan_from_settings(imbalance: pd.DataFrame, settings: dict, sources: pd.DataFrame | None) -> pd.DataFrame:
    """`plan_generation` with the `settings` of the rule of that name (see rules/generation.smk): plain dicts."""
    generation = Generation.model_validate(settings["generation"])
    return plan_generation(
        imbalance,
        balance=Balance.model_validate(settings["balance"]),
        prompts=Prompts.model_validate(settings["prompts"]),
        generation=generation,
        seed=settings["seed"],
        image_size=settings["image_size"],
        color=settings["color"],
        version=model_version(generation.model, generation.revision),
        adapters=adapters_text(generation.adapters),
        sources=sources,
        group_columns=settings.get("group_columns", ()),
    )


def read_sources(real: str, train_split: str) -> pd.DataFrame:
    """The rows of the manifest at `real` that image-to-image may start from: usable training images."""
    rows = read_manifest("real", real, ["image_id", "split", "label_name", "group", "usable"])
    return rows[(rows["split"] == train_split) & rows["usable"]]


def draw_sources(seeds: pd.Series, sources: pd.DataFrame, label_name: str, group: str = "") -> list[str]:
    """For each seed (of images of one cell) the image_id of the real image of this cell that it starts from.

    Every pair of seed and real image has a hash, and the lowest wins (rendezvous hashing): a real image that goes
    takes only the synthetic images with it that started from it.
    """
    sources = with_group(sources)
    ids = sorted(sources.loc[(sources["label_name"] == label_name) & (sources["group"] == group), "image_id"])
    if not ids:
        where = f" in group {group!r}" if group else ""
        raise UserError(
            f"class {label_name!r}{where}: has no real training image to start from; use pipeline: text-to-image for it"
        )
    keys = np.array([int(hashlib.sha256(one.encode()).hexdigest()[:16], 16) for one in ids], np.uint64)
    chosen = []
    for some in np.array_split(seeds.to_numpy(np.uint64), max(1, len(seeds) * len(ids) // 4_000_000)):
        mixed = some[:, None] ^ keys[None, :]
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # the mixer of splitmix64
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        chosen += (mixed ^ (mixed >> np.uint64(31))).argmin(axis=1).tolist()
    return [ids[i] for i in chosen]


def _as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def image_seed(base: int, label_name: str, index: int, group: str = "") -> int:
    """Seed of one image, 0 to 2^63 - 1: a hash, so that no seed is shared by two cells or two experiments."""
    return image_seeds(base, label_name, [index], group)[0]


def image_seeds(base: int, label_name: str, indices: Iterable[int], group: str = "") -> list[int]:
    """`image_seed` of many images of a cell: hashes of [base, label_name, group if there is one, index] as JSON."""
    start = json.dumps([base, label_name, group] if group else [base, label_name])[:-1]
    digests = (hashlib.sha256(f"{start}, {index}]".encode()).digest() for index in indices)
    return [int.from_bytes(digest[:8], "big") >> 1 for digest in digests]
