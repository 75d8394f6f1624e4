"""One shard: copy what exists already, sample the rest, pack it.

Finished batches go to a work folder that Snakemake does not know, since it deletes the declared output of a killed
job. They have the form of shards, and so has everything that is copied from.
"""

import hashlib
import json
import logging
import platform
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from synaug.generation.encoding import encode, relabel_images
from synaug.images.store import encoded_images
from synaug.manifests import read_table, with_group, write_manifest
from synaug.manifests.schemas import SCHEMAS
from synaug.runtime.files import atomic_path, text_hash

log = logging.getLogger(__name__)


def generate_shard(
    rows: pd.DataFrame,
    batch_size: int,
    out: Path,
    work: Path,
    existing: Iterable[Path],
    threads: int,
    *,
    compile: bool = False,
    sources: Mapping[str, np.ndarray] | None = None,
    cost_file: Path | None = None,
) -> dict[str, int]:
    """Write the images of `rows` (manifest `plan`, all of one shard) as the manifest `shard` to `out`.

    batch_size: images sampled together; 0: found by a trial. existing: other shards, to copy images with the same ids
    from; a damaged one is passed over. work: folder for finished batches, read first and deleted at the end, so that a
    killed job goes on where it stopped. compile, sources: see `load_pipeline` and `sample`. cost_file: where to note
    what sampling cost (JSON, see `Cost.total`), if any was done.
    Returns {"copied", "sampled"}: numbers of images.
    Nothing heavy is imported if nothing has to be sampled.
    """
    wanted = set(rows["image_id"])
    parts = _find_images(wanted, sorted(work.glob("*.parquet")))
    resumed = sum(part.num_rows for part in parts)
    parts += _find_images(wanted - _ids(parts), existing)
    found = _ids(parts)
    copied = len(found) - resumed
    missing = rows[~rows["image_id"].isin(found)]
    log.info("%d images wanted: %d finished before, %d copied, %d to sample", len(rows), resumed, copied, len(missing))
    if len(missing):
        new, cost = _sample_missing(missing, batch_size, work, threads, compile, sources)
        parts += new
        if cost_file:
            with atomic_path(cost_file) as temporary:
                temporary.write_text(json.dumps(cost) + "\n")
    images = pa.concat_tables([part.select([*_MADE, "licence"]) for part in parts])
    order = pd.Series(range(images.num_rows), images.column("image_id").to_pylist())
    # The licence is in the image file, and not in its id: a plan that names another one gets its own.
    images = relabel_images(images.take(pa.array(order[rows["image_id"]].to_numpy())), rows).drop_columns("licence")
    # Columns of the plan come from this plan, wherever the pixels come from.
    planned = pa.Table.from_pandas(rows[_PLANNED], preserve_index=False)
    for name in planned.column_names:
        images = images.append_column(name, planned.column(name))
    write_manifest("shard", images, out)
    shutil.rmtree(work, ignore_errors=True)
    return {"copied": copied, "sampled": len(missing) + resumed}


# Columns that come from making the image, and those that come from the plan.
_MADE = ["image", "image_id", "sha256", "width", "height", "batch_size", "device", "threads", "libraries"]
# Columns that say what is loaded.
_LOADED = ["pipeline", "model", "model_version", "adapters", "scheduler", "dtype"]
_PLANNED = [name for name in SCHEMAS["shard"].names if name not in _MADE]


def _ids(parts: list[pa.Table]) -> set[str]:
    return {image_id for part in parts for image_id in part.column("image_id").to_pylist()}


def _find_images(wanted: set[str], files: Iterable[Path]) -> list[pa.Table]:
    """Rows with `wanted` ids in `files`, each id once: the ids are read first, the images only where there is one."""
    wanted, parts = set(wanted), []
    left = pa.array(list(wanted), pa.string())
    for file in files:
        if not wanted:
            break
        try:
            # Every job looks into every shard: `read_table` and a set would take three times as long.
            with pq.ParquetFile(file) as shard:
                ids = shard.read(["image_id"], use_threads=False).column("image_id")
            rows = pc.indices_nonzero(pc.is_in(ids, value_set=left))
            if len(rows):
                part = read_table("shard", file).take(rows)
                parts.append(_undamaged(part, file))
                wanted -= _ids(parts[-1:])
                left = pa.array(list(wanted), pa.string())
        except Exception as error:
            # The look-up is an acceleration: what cannot be read is sampled again.
            log.warning("%s: passed over: %s", file, error)
    return parts


def _undamaged(part: pa.Table, file: Path) -> pa.Table:
    """The rows whose image has the hash that was recorded for it."""
    data = part.column("image").combine_chunks().field("bytes").to_pylist()
    good = [
        hashlib.sha256(image).hexdigest() == sha
        for image, sha in zip(data, part.column("sha256").to_pylist(), strict=True)
    ]
    if not all(good):
        log.warning("%s: %d images do not have their recorded hash and are made again", file, good.count(False))
    return part.filter(pa.array(good))


def _sample_missing(
    rows: pd.DataFrame, batch_size: int, work: Path, threads: int, compile: bool, sources
) -> tuple[list[pa.Table], dict]:
    """Sample `rows`, put every finished batch into `work`, and return them all, and what they cost."""
    import torch

    from synaug.generation.cost import Cost
    from synaug.generation.pipelines import load_pipeline
    from synaug.generation.sampling import sample
    from synaug.runtime.devices import device_name, leased_device

    torch.set_num_threads(threads)
    parts, done = [], 0
    # One thread writes batch after batch, others encode its images, while the next one is sampled. At the end, and on
    # an interruption, the writer is waited for first: it needs the encoders.
    with leased_device() as device, ThreadPoolExecutor(threads) as encoders, ThreadPoolExecutor(1) as writer:
        cost = Cost(device)
        made = {"device": device_name(device), "threads": threads, "libraries": libraries(compile)}
        pending = None
        for _, alike in rows.groupby(_LOADED, sort=True):
            pipeline = load_pipeline(alike.iloc[0], device, compile)
            size = batch_size or _trial(pipeline, alike, sources, work)
            cost.ready()
            log.info(
                "%s on %s, ready after %.1f s, batches of %d", *alike[["model"]].iloc[0], device, cost.seconds(), size
            )
            for batch, pixels in sample(pipeline, alike, size, sources):
                if pending is not None:
                    parts.append(pending.result())
                pending = writer.submit(_write_batch, batch, pixels, made, work, encoders)
                done += len(batch)
                rate = cost.sampled(len(batch))
                log.info("%d/%d images, %.1f images/s, %.0f s left", done, len(rows), rate, (len(rows) - done) / rate)
        parts.append(pending.result())
        encoded = sum(len(image) for part in parts for image in encoded_images(part.column("image")))
        return parts, cost.total(rows, encoded)


def _trial(pipeline, rows: pd.DataFrame, sources, work: Path) -> int:
    """The batch size of an interrupted job, or else one found by trial: another one could change a pixel by a level."""
    from synaug.generation.batch_size import find_batch_size

    file = work / f"batch_size_{text_hash(*rows[_LOADED].iloc[0].tolist())[:8]}"
    if not file.exists():
        size = find_batch_size(pipeline, rows, sources)
        with atomic_path(file) as temporary:
            temporary.write_text(str(size))
    return int(file.read_text())


def _write_batch(batch: pd.DataFrame, pixels, made: dict, work: Path, encoders: ThreadPoolExecutor) -> pa.Table:
    rows = batch.to_dict("records")
    encoded = list(encoders.map(lambda image, row: encode(image, row, row["format"]), pixels, rows))
    images = batch.assign(
        image=[
            {"bytes": data, "path": f"{row['image_id']}.{row['format']}"}
            for data, row in zip(encoded, rows, strict=True)
        ],
        sha256=[hashlib.sha256(data).hexdigest() for data in encoded],
        width=pixels.shape[2],
        height=pixels.shape[1],
        **made,
    )
    file = work / f"{batch['image_id'].iloc[0]}.parquet"
    write_manifest("shard", with_group(images)[SCHEMAS["shard"].names], file)
    return read_table("shard", file)


def libraries(compile: bool) -> str:
    """Versions of what decides the last bits of an image, and whether the denoiser is compiled."""
    from importlib.metadata import version

    names = ("torch", "diffusers", "transformers", "pillow")
    said = [f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)]
    return ", ".join([*said, "compiled"] if compile else said)
