"""The plan: one row per wanted synthetic image, with everything that decides its pixels.

The plan is a pure function of data and config. The seed of an image comes from (base seed, class, group, index), so a
cell that grows keeps the images it has. The id of an image is the hash of everything that decides its pixels, so an
image that exists in any experiment is not made again.

A plan has up to a hundred million rows. Only the ids and seeds of the images are in memory together, since the name of
a shard is the hash of its ids. The other columns are made when the rows are written, batch by batch.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from synaug.config import Balance, Generation, Prompts
from synaug.images.codec import LARGE
from synaug.manifests import read_manifest, to_frame, with_group
from synaug.manifests.schemas import REPEATED, SCHEMAS
from synaug.plan.checkpoints import adapters_json, is_local, model_version, without_local_paths
from synaug.plan.model_family import check_generation
from synaug.plan.prompt_length import check_lengths, read_text_encoders
from synaug.plan.prompts import cell_prompts
from synaug.plan.shards import runs_of_shards, shard_name
from synaug.plan.targets import planned_counts, shares_of_fill
from synaug.runtime.errors import UserError
from synaug.runtime.files import text_hash

# Raise it when a change to the sampling or encoding code changes pixels: it is part of every image_id.
SAMPLER_VERSION = 3

_ID_BYTES = 12  # an id is these bytes as hexadecimal digits
_BATCH = 65536  # rows that are made at a time


@dataclass(frozen=True)
class _Cell:
    """A class, or a class within a group, and what differs between its images: `prompts`, and what they start from.

    sources: ids of its real images for image-to-image, sorted. begin, end: positions of its images in its fill.
    first: the index of its first image, 0 unless images are left out before it.
    """

    label: int
    label_name: str
    group: str
    prompts: list[str]
    sources: list[str] | None
    begin: int
    end: int
    first: int

    def prompts_used(self, pairs: int) -> list[str]:
        """The prompts of its images, each once. pairs: of steps and guidance."""
        begin, end = self.first // pairs, -(-(self.first + self.end - self.begin) // pairs)
        return [self.prompts[i % len(self.prompts)] for i in range(begin, min(end, begin + len(self.prompts)))]


@dataclass(frozen=True)
class PlannedFill:
    """The images of a fill, N in all: cell by cell, ordered by label and group.

    steps_and_guidance: the pairs that the images of a cell take turns with. same_for_all: the columns that have one
    value. ids: uint8, N x 12. seeds: int64, N. source_positions: int32, N, positions in the `sources` of a cell; None:
    not image-to-image. shard_names: of the shards. run_shards, run_ends: of the runs of images in one shard, position
    in `shard_names` and end of the run.
    """

    cells: list[_Cell]
    steps_and_guidance: list[tuple[int, float]]
    same_for_all: dict
    ids: np.ndarray
    seeds: np.ndarray
    source_positions: np.ndarray | None
    shard_names: list[str]
    run_shards: np.ndarray
    run_ends: np.ndarray

    def __len__(self) -> int:
        return len(self.seeds)

    def prompts(self) -> list[str]:
        """The prompts that are used, each once."""
        pairs = len(self.steps_and_guidance)
        return list(dict.fromkeys(text for cell in self.cells for text in cell.prompts_used(pairs)))

    def batches(self, cell: _Cell) -> Iterator[pa.RecordBatch]:
        """The rows of the manifest `plan` of a cell."""
        for begin in range(cell.begin, cell.end, _BATCH):
            yield self._batch(cell, begin, min(begin + _BATCH, cell.end))

    def _batch(self, cell: _Cell, begin: int, end: int) -> pa.RecordBatch:
        """The rows of the images at the positions `begin` to `end` - 1, which are of `cell`."""
        index = np.arange(begin - cell.begin, end - cell.begin, dtype=np.int32) + np.int32(cell.first)
        pairs = len(self.steps_and_guidance)
        steps, guidance = (np.array(values)[index % pairs] for values in zip(*self.steps_and_guidance, strict=True))
        runs = np.arange(np.searchsorted(self.run_ends, begin, "right"), np.searchsorted(self.run_ends, end) + 1)
        images_of_runs = np.diff(self.run_ends[runs].clip(max=end), prepend=begin)
        sources = pa.nulls(len(index), pa.string())
        if self.source_positions is not None:
            sources = pa.array(cell.sources, pa.string()).take(pa.array(self.source_positions[begin:end]))
        digits = pa.py_buffer(self.ids[begin:end].tobytes().hex().encode())
        offsets = np.arange(len(index) + 1, dtype=np.int32) * (2 * _ID_BYTES)
        columns = {
            "image_id": pa.StringArray.from_buffers(len(index), pa.py_buffer(offsets), digits),
            "index": index,
            "prompt": _repeated(cell.prompts, index // pairs % len(cell.prompts)),
            "seed": self.seeds[begin:end],
            "steps": steps,
            "guidance": guidance,
            "source_image": sources,
            "shard": _repeated([self.shard_names[i] for i in self.run_shards[runs]],
                               np.repeat(np.arange(len(runs)), images_of_runs)),
        }  # fmt: skip
        values = self.same_for_all | {"label": cell.label, "label_name": cell.label_name, "group": cell.group}
        for name, value in values.items():
            field = SCHEMAS["plan"].field(name)
            if field.type == REPEATED:
                columns[name] = _repeated([value], np.zeros(len(index)))
            else:
                columns[name] = pa.repeat(pa.scalar(value, field.type), len(index))
        arrays = [pa.array(columns[field.name]).cast(field.type) for field in SCHEMAS["plan"]]
        return pa.RecordBatch.from_arrays(arrays, schema=SCHEMAS["plan"])


def _repeated(values: list[str], positions: np.ndarray) -> pa.DictionaryArray:
    """The strings at `positions` in `values`."""
    return pa.DictionaryArray.from_arrays(positions.astype(np.int32), pa.array(values, pa.string()))


def plan_fill(
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
    following: int | None = None,
    fill: str = "",
    crops: bool = False,
) -> PlannedFill:
    """The planned images of one fill.

    imbalance: the manifest of this name. seed: base of all seeds. image_size (pixels), color: of the images for the
    classifier. crops: whether it is trained on random crops. Crops of large images are cut out of the image file, and
    those of real photographs are sharp. So that those of synthetic images are sharp too, the images are stored at the
    size at which they are made.
    version, adapters: from `model_version` and `adapters_json`. sources: for image-to-image, the real images to start
    from (columns image_id, label_name, group). group_columns: of the data set. shares: of the gate, see
    `wanted_counts`. pilot: at most this many images of each cell, the first ones. following: instead of these images,
    this many of each cell that come after them. fill: its name.
    Raises UserError if a cell that needs sources has none.
    """
    rows = with_group(imbalance[imbalance["kind"] == "cell"]).sort_values(["label", "group"])
    counts = planned_counts(rows, balance, shares).clip(upper=pilot).to_numpy()
    first = np.zeros_like(counts)
    if following is not None:
        counts, first = np.full_like(counts, following), counts
    prompts_of_cells = cell_prompts(prompts, rows, group_columns)
    same_for_all = {
        "pipeline": generation.pipeline,
        "model": generation.model,
        "model_version": version,
        "adapters": adapters,
        "scheduler": generation.scheduler_text,
        "strength": generation.strength,
        "size": generation.size,
        "stored_size": max(image_size, generation.size) if crops and image_size > LARGE else image_size,
        "color": color,
        "format": generation.format,
        "dtype": generation.dtype,
        "negative_prompt": prompts.negative,
        "sampler_version": SAMPLER_VERSION,
    }
    # The path of a local model or adapter does not affect pixels: its contents do, and the version is their hash.
    decides_all_pixels = same_for_all | {
        "model": None if is_local(version) else generation.model,
        "adapters": without_local_paths(adapters),
    }
    # A newer key is part of an id only if it changes pixels, so that the ids of earlier versions remain.
    if generation.original_size not in (None, generation.size):
        decides_all_pixels["original_size"] = generation.original_size
    if generation.variant:  # the version is that of all files; the variant decides which of them are read
        decides_all_pixels["variant"] = generation.variant
    common_hash = text_hash(decides_all_pixels)
    ends = np.cumsum(counts).tolist()
    sources_of_cells = None if sources is None else _ids_of_cells(sources)
    cells = [
        _Cell(
            label=int(row.label),
            label_name=row.label_name,
            group=row.group,
            prompts=prompts_of_cells[position],
            sources=None if sources_of_cells is None else sources_of_cells.get((row.label_name, row.group), []),
            begin=ends[position] - int(counts[position]),
            end=ends[position],
            first=int(first[position]),
        )
        for position, row in enumerate(rows.itertuples())
    ]
    pairs, total = generation.steps_and_guidance, int(counts.sum())
    ids, seeds = np.empty((total, _ID_BYTES), np.uint8), np.empty(total, np.int64)
    source_positions = None if sources is None else np.empty(total, np.int32)
    for cell in cells:
        for begin in range(cell.begin, cell.end, _BATCH):
            count = min(_BATCH, cell.end - begin)
            indices = range(cell.first + begin - cell.begin, cell.first + begin - cell.begin + count)
            seeds_of_batch = image_seeds(seed, cell.label_name, indices, cell.group)
            batch = slice(begin, begin + count)
            seeds[batch] = seeds_of_batch
            source_ids: list[str | None] = [None] * len(indices)
            if source_positions is not None:
                source_positions[batch] = draw_sources(seeds[batch], cell)
                source_ids = [cell.sources[i] for i in source_positions[batch]]
            hashes = []
            for i, number, source in zip(indices, seeds_of_batch, source_ids, strict=True):
                # Steps and guidance vary fastest, so that every prompt is used with each pair of them.
                prompt = cell.prompts[i // len(pairs) % len(cell.prompts)]
                hashes.append(text_hash(common_hash, prompt, number, *pairs[i % len(pairs)], source))
            digits = "".join(text[: 2 * _ID_BYTES] for text in hashes)
            ids[batch] = np.frombuffer(bytes.fromhex(digits), np.uint8).reshape(-1, _ID_BYTES)
    # What a cell lacks falls by `factor` with each real image: cells that grow together keep this phase.
    factor = balance.amount * balance.oversample
    phases = (rows["count"].to_numpy() * factor).round(6).astype(int)
    run_shards, run_lengths = runs_of_shards(counts, phases, generation.images_per_shard)
    run_ends = np.cumsum(run_lengths)
    return PlannedFill(
        cells=cells,
        steps_and_guidance=pairs,
        same_for_all=same_for_all
        | {
            "original_size": generation.original_size or 0,
            "variant": generation.variant or "",
            "licence": generation.licence,
            "truncate": prompts.truncate,
            "fill": fill,
        },
        ids=ids,
        seeds=seeds,
        source_positions=source_positions,
        shard_names=_shard_names(ids, run_shards, run_ends),
        run_shards=run_shards,
        run_ends=run_ends,
    )


def _shard_names(ids: np.ndarray, run_shards: np.ndarray, run_ends: np.ndarray) -> list[str]:
    """The names of the shards. ids, run_shards, run_ends: of a `PlannedFill`."""
    runs_of_shard: dict[int, list[bytes]] = {}
    begin = 0
    for shard, end in zip(run_shards.tolist(), run_ends.tolist(), strict=True):
        runs_of_shard.setdefault(shard, []).append((begin, end))
        begin = end
    names = []
    for shard in range(len(runs_of_shard)):
        digits = "".join(ids[begin:end].tobytes().hex() for begin, end in runs_of_shard[shard])
        names.append(shard_name([digits[i : i + 2 * _ID_BYTES] for i in range(0, len(digits), 2 * _ID_BYTES)]))
    return names


def plan_fills(
    imbalance: pd.DataFrame,
    settings: dict,
    sources: pd.DataFrame | None,
    gate: pd.DataFrame | None = None,
    pilot: int | None = None,
    following: int | None = None,
) -> list[PlannedFill]:
    """`plan_fill` of all fills, with the `settings` of rule plan_generation (see rules/plan.smk): plain dicts.

    Without a model there are none.

    gate: the manifest of this name. pilot, following: see `plan_fill`.
    Raises UserError also if the settings do not suit the model, see `check_generation`, if its text encoder would cut a
    prompt, or if fills share images.
    """
    prompts = Prompts.model_validate(settings["prompts"])
    fills = {}
    for name, values in (settings.get("fills") or {"": settings["generation"]}).items():
        generation = Generation.model_validate(values)
        if generation.model is None:  # nothing needs synthetic images, see `Config`
            continue
        check_generation(generation, prompts.negative)
        fills[name] = plan_fill(
            imbalance,
            balance=Balance.model_validate(settings["balance"]),
            prompts=prompts,
            generation=generation,
            seed=settings["seed"],
            image_size=settings["image_size"],
            crops=settings.get("crops", False),
            color=settings["color"],
            version=model_version(generation.model, generation.revision),
            adapters=adapters_json(generation.adapters),
            sources=sources if generation.pipeline == "image-to-image" else None,
            group_columns=settings.get("group_columns", ()),
            shares=shares_of_fill(gate, name),
            pilot=pilot,
            following=following,
            fill=name,
        )
        if generation.pipeline != "class-conditional" and not prompts.truncate:
            texts = [*fills[name].prompts(), prompts.negative]
            check_lengths(texts, read_text_encoders(generation), generation.model)
    if len(fills) > 1:
        _check_images_differ(fills)
    return list(fills.values())


def _check_images_differ(fills: Mapping[str, PlannedFill]) -> None:
    """Raise UserError if two fills have the same images."""
    # Only parts of the ids are sorted, which few images share by chance. Those few are then compared as a whole.
    parts = {name: fill.ids[:, :8].copy().view(np.uint64).ravel() for name, fill in fills.items()}
    in_order = np.sort(np.concatenate(list(parts.values())))
    repeated = in_order[1:][in_order[1:] == in_order[:-1]][:1000]
    images = {name: {row.tobytes() for row in fill.ids[np.isin(parts[name], repeated)]} for name, fill in fills.items()}
    shared = [
        name for name, own in images.items() if any(own & others for other, others in images.items() if other != name)
    ]
    if shared:
        # Their settings differ, but not what they stand for, as with two copies of one model.
        raise UserError(f"fills: {' and '.join(shared)} make the same images; leave one out")


def plan_batches(fills: Sequence[PlannedFill]) -> Iterator[pa.RecordBatch]:
    """The rows of the manifest `plan` of all `fills`, of the same cells, in the order of the manifest."""
    in_order = sorted(fills, key=lambda fill: fill.same_for_all["fill"])
    for cells in zip(*(fill.cells for fill in in_order), strict=True):
        for fill, cell in zip(in_order, cells, strict=True):
            yield from fill.batches(cell)


def plan_frame(fills: Sequence[PlannedFill]) -> pd.DataFrame:
    """The rows of the manifest `plan` of all `fills` together, for plans that fit into memory."""
    return to_frame(pa.Table.from_batches(plan_batches(fills), SCHEMAS["plan"]))


def plan_generation(imbalance: pd.DataFrame, **settings) -> pd.DataFrame:
    """Rows of the manifest `plan` for one fill. settings: as `plan_fill`."""
    return plan_frame([plan_fill(imbalance, **settings)])


def plan_from_settings(
    imbalance: pd.DataFrame,
    settings: dict,
    sources: pd.DataFrame | None = None,
    gate: pd.DataFrame | None = None,
    pilot: int | None = None,
    following: int | None = None,
) -> pd.DataFrame:
    """Rows of the manifest `plan`: one for each synthetic image that the cells of `imbalance` lack.

    imbalance: the manifest of this name. settings: from `Config.plan_settings`. sources: for image-to-image, the real
    images to start from, see `read_sources`. gate: the manifest of this name, which says how many images a class may
    get. pilot: at most this many images of each cell, the first ones. following: instead of these images, this many of
    each cell that come after them.
    Raises UserError if the settings do not suit the model, if its text encoder would cut a prompt, if fills share
    images, or if a cell that needs sources has none.
    """
    return plan_frame(plan_fills(imbalance, settings, sources, gate, pilot, following))


def read_sources(real: str, train_split: str) -> pd.DataFrame:
    """The rows of the manifest at `real` that image-to-image may start from: usable training images."""
    rows = read_manifest("real", real, ["image_id", "split", "label_name", "group", "usable"])
    return rows[(rows["split"] == train_split) & rows["usable"]]


def _ids_of_cells(sources: pd.DataFrame) -> dict:
    """(label_name, group) -> the sorted ids of its real images."""
    return {cell: sorted(ids) for cell, ids in with_group(sources).groupby(["label_name", "group"])["image_id"]}


def draw_sources(seeds: np.ndarray, cell: _Cell) -> np.ndarray:
    """For each of `seeds` (one per image of `cell`), the position in its sources of the real image to start from.

    Every pair of seed and real image has a hash, and the lowest hash wins (rendezvous hashing): if a real image is
    removed, only the synthetic images that started from it change. Raises UserError if there is none.
    """
    if not cell.sources:
        where = f" in group {cell.group!r}" if cell.group else ""
        raise UserError(
            f"class {cell.label_name!r}{where}: has no real training image to start from; use pipeline: text-to-image "
            "for it"
        )
    digests = [hashlib.sha256(image_id.encode()).digest() for image_id in cell.sources]
    keys = np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.uint64)
    drawn = []
    # In chunks of about 4 million pairs, to bound the memory.
    for chunk in np.array_split(seeds.astype(np.uint64), max(1, len(seeds) * len(keys) // 4_000_000)):
        mixed = chunk[:, None] ^ keys[None, :]
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # the mixer of splitmix64
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        drawn.append((mixed ^ (mixed >> np.uint64(31))).argmin(axis=1))
    return np.concatenate(drawn)


def image_seeds(base: int, label_name: str, indices: Iterable[int], group: str = "") -> list[int]:
    """Seeds, 0 to 2^63 - 1, of the images `indices` of a cell: hashes of [base, label_name, group, index] as JSON.

    Without a group, its entry is omitted. Hashed so that no two cells or base seeds share a seed.
    """
    start = json.dumps([base, label_name, group] if group else [base, label_name])[:-1]
    digests = (hashlib.sha256(f"{start}, {index}]".encode()).digest() for index in indices)
    return [int.from_bytes(digest[:8], "big") >> 1 for digest in digests]
