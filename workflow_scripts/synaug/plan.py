"""The plan: one row per synthetic image that is wanted, with everything that decides its pixels.

It is a pure function of the data and the config. An image's seed comes from (base seed, class, index), so a class
that grows keeps the images it has; an image's id is the hash of all that decides its pixels, so an image that exists
anywhere need not be made again.
"""

import hashlib
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from synaug.config import Balance, Generation, Prompts
from synaug.errors import UserError
from synaug.manifests import file_hash, read_table, text_hash
from synaug.prompts import class_prompts

# Raise it when a change of the sampling or encoding code changes pixels: it is part of every image_id.
SAMPLER_VERSION = 1
# File endings that decide what a checkpoint computes.
# Begins the version of a local model, which is a hash.
_CONTENTS = "sha256:"
_MODEL_FILES = (".json", ".safetensors", ".txt", ".model")


def wanted_counts(cells: pd.DataFrame, balance: Balance) -> pd.Series:
    """Synthetic images per row of `cells` (the class rows of the manifest `imbalance`): int, aligned with it."""
    counts = cells["count"]
    level = counts.max() if balance.strategy == "largest" else balance.target
    wanted = (level - counts).clip(lower=0)
    if balance.max_synthetic_per_real is not None:
        wanted = np.minimum(wanted, np.floor(counts * balance.max_synthetic_per_real))
    return wanted.astype(int)


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
) -> pd.DataFrame:
    """Rows of the manifest `plan`.

    imbalance: the manifest of this name. seed: base of all seeds. image_size (pixels), color: of the stored images.
    version: from `model_version`.
    """
    cells = imbalance[imbalance["kind"] == "cell"].sort_values("label")
    wanted = wanted_counts(cells, balance)
    texts = class_prompts(prompts, cells["label_name"].tolist())
    same = {
        "pipeline": "text-to-image",
        "model": generation.model,
        "model_version": version,
        "scheduler": generation.scheduler or "",
        "steps": generation.steps,
        "guidance": generation.guidance,
        "size": generation.size,
        "stored_size": image_size,
        "color": color,
        "dtype": generation.dtype,
        "negative_prompt": prompts.negative,
        "source_image": None,
        "sampler_version": SAMPLER_VERSION,
    }
    # The name of a local folder decides no pixel: its contents do, and model_version is their hash.
    shared = text_hash({**same, "model": None if version.startswith(_CONTENTS) else generation.model})
    per_shard = generation.images_per_shard
    slots = _tail_slots(wanted.to_numpy() % per_shard, per_shard)
    classes = []
    for position, (cell, count) in enumerate(zip(cells.itertuples(), wanted, strict=True)):
        own = texts[cell.label_name]
        drawn = [(own[i % len(own)], image_seed(seed, cell.label_name, i)) for i in range(count)]
        blocks = [f"{position}-{i // per_shard}" for i in range(count - count % per_shard)]
        blocks += [f"tail-{slots[position]}"] * (count % per_shard)
        classes.append(
            pd.DataFrame(
                {
                    "image_id": [text_hash(shared, *prompt_and_seed)[:24] for prompt_and_seed in drawn],
                    "label": cell.label,
                    "label_name": cell.label_name,
                    "index": range(count),
                    "prompt": [prompt for prompt, _ in drawn],
                    "seed": [seed for _, seed in drawn],
                    "block": blocks,
                }
            )
        )
    plan = pd.concat(classes, ignore_index=True).assign(**same, licence=generation.licence)
    names = {block: shard_name(ids.tolist()) for block, ids in plan.groupby("block", sort=False)["image_id"]}
    return plan.assign(shard=plan["block"].map(names).astype("str")).drop(columns="block")


def image_seed(base: int, label_name: str, index: int) -> int:
    """Seed of one image, 0 to 2^63 - 1: a hash, so that no seed is shared by two classes or two experiments."""
    digest = hashlib.sha256(json.dumps([base, label_name, index]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def shard_name(image_ids: list[str]) -> str:
    """Name of the shard that holds these images: the hash of their ids, in any order."""
    return text_hash(sorted(image_ids))[:16]


@lru_cache
def shard_names(plan: str, changed_ns: int) -> list[str]:
    """Names of all shards of the manifest at `plan`, sorted. changed_ns: time of its last change, for the cache."""
    return sorted(read_table("plan", plan, ["shard"]).column("shard").unique().to_pylist())


def model_version(model: str, revision: str | None) -> str:
    """Local folder: hash of its contents; hub id: the revision. Raises UserError as `model_files` does."""
    files = model_files(model, revision)
    if not files:
        return revision
    contents = [[str(Path(file).relative_to(model)), file_hash(file)] for file in files]
    return _CONTENTS + text_hash(contents)[:24]


def model_files(model: str, revision: str | None) -> list[str]:
    """The files of a local model that decide what it computes, sorted; of a hub id: none.

    Raises UserError for a folder that is no checkpoint, and for a hub id without a revision.
    """
    folder = Path(model)
    if not folder.is_dir():
        if revision is None:
            raise UserError(
                f"generation.model: {model!r} is no folder here, and for a hub model generation.revision (a commit of "
                "its page) is needed, or its images could not be made again"
            )
        return []
    files = sorted(str(file) for file in folder.rglob("*") if file.suffix in _MODEL_FILES)
    if not (folder / "model_index.json").is_file():
        raise UserError(f"generation.model: {model} has no model_index.json; give a folder in the diffusers layout")
    if not any(file.endswith(".safetensors") for file in files):
        raise UserError(f"generation.model: {model} holds no weights (*.safetensors); copy the checkpoint again")
    return files


def _tail_slots(tails: np.ndarray, per_shard: int) -> np.ndarray:
    """Which of the shared shards holds what class c has beyond whole blocks: int, one per class, rising.

    tails: images beyond whole blocks, per class, each less than `per_shard`. The classes are cut into equal runs, as
    few as a power of two that leaves no run with more than `per_shard` images. A power of two, so that the number
    stays when classes grow a little; and the position of a class, not a running sum, decides its run, so that a class
    that grows leaves the others alone.
    """
    classes, runs = len(tails), 1
    while True:
        slots = np.arange(classes) * min(runs, classes) // classes
        if runs >= classes or np.bincount(slots, tails).max() <= per_shard:
            return slots
        runs *= 2
