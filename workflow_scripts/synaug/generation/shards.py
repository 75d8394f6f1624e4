"""Make one shard: copy the images that exist, sample the others, and write all of them to one file.

Finished batches go to a work folder that is not an output of the rule, since Snakemake deletes the outputs of a killed
job. Files of batches, and all files that images are copied from, have the schema of shards.
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

from synaug.generation.encoding import encode, update_licences
from synaug.images.tables import encoded_images
from synaug.manifests import read_table, with_group, write_manifest
from synaug.manifests.schemas import SCHEMAS
from synaug.runtime.files import atomic_path, text_hash

log = logging.getLogger(__name__)

# Columns that describe the stored image. They are copied with it; all other columns come from the plan.
_IMAGE_COLUMNS = ["image", "image_id", "sha256", "width", "height", "batch_size", "device", "threads", "libraries"]
_PLAN_COLUMNS = [name for name in SCHEMAS["shard"].names if name not in _IMAGE_COLUMNS]
# Columns that decide what is loaded. A shard may need several models.
_MODEL_COLUMNS = ["pipeline", "model", "model_version", "adapters", "scheduler", "dtype"]


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

    batch_size: images sampled together; 0: found by a trial. existing: files from which images with the same ids are
    copied; a damaged file is skipped. work: folder for finished batches, from which a killed job continues; deleted at
    the end. threads: of the CPU, for sampling and for encoding. compile, sources: see `load_pipeline` and `sample`.
    cost_file: where to write what sampling used (JSON, see `UsageMeter.total`), if anything was sampled.
    Returns {"copied", "sampled"}: numbers of images.
    torch and diffusers are not imported if nothing has to be sampled.
    """
    wanted = set(rows["image_id"])
    tables = _find_images(wanted, sorted(work.glob("*.parquet")))
    resumed = sum(table.num_rows for table in tables)
    tables += _find_images(wanted - _ids(tables), existing)
    available = _ids(tables)
    copied = len(available) - resumed
    missing = rows[~rows["image_id"].isin(available)]
    log.info("%d images wanted: %d finished before, %d copied, %d to sample", len(rows), resumed, copied, len(missing))
    if len(missing):
        sampled, usage = _sample_missing(missing, batch_size, work, threads, compile, sources)
        tables += sampled
        if cost_file:
            with atomic_path(cost_file) as temporary:
                temporary.write_text(json.dumps(usage) + "\n")
    images = pa.concat_tables([table.select([*_IMAGE_COLUMNS, "licence"]) for table in tables])
    positions = pd.Series(range(images.num_rows), images.column("image_id").to_pylist())
    images = images.take(pa.array(positions[rows["image_id"]].to_numpy()))
    images = update_licences(images, rows).drop_columns("licence")
    planned = pa.Table.from_pandas(rows[_PLAN_COLUMNS], preserve_index=False)
    for name in planned.column_names:
        images = images.append_column(name, planned.column(name))
    write_manifest("shard", images, out)
    shutil.rmtree(work, ignore_errors=True)
    return {"copied": copied, "sampled": len(missing) + resumed}


def _ids(tables: list[pa.Table]) -> set[str]:
    return {image_id for table in tables for image_id in table.column("image_id").to_pylist()}


def _find_images(wanted: set[str], files: Iterable[Path]) -> list[pa.Table]:
    """The rows of `files` with the ids `wanted`, each id once. Images are read only from files that hold such ids."""
    wanted, tables = set(wanted), []
    wanted_array = pa.array(list(wanted), pa.string())
    for file in files:
        if not wanted:
            break
        try:
            # Every job reads the ids of every shard: `read_table` and a Python set would take three times as long.
            with pq.ParquetFile(file) as shard:
                ids = shard.read(["image_id"], use_threads=False).column("image_id")
            positions = pc.indices_nonzero(pc.is_in(ids, value_set=wanted_array))
            if len(positions):
                table = _undamaged(read_table("shard", file).take(positions), file)
                tables.append(table)
                wanted -= _ids([table])
                wanted_array = pa.array(list(wanted), pa.string())
        except Exception as error:
            # Copying only saves time: images that cannot be read are sampled again.
            log.warning("%s: skipped: %s", file, error)
    return tables


def _undamaged(images: pa.Table, file: Path) -> pa.Table:
    """The rows whose image has its recorded hash."""
    data = images.column("image").combine_chunks().field("bytes").to_pylist()
    intact = [
        hashlib.sha256(image).hexdigest() == sha256
        for image, sha256 in zip(data, images.column("sha256").to_pylist(), strict=True)
    ]
    if not all(intact):
        log.warning("%s: %d images do not have their recorded hash and are made again", file, intact.count(False))
    return images.filter(pa.array(intact))


def _sample_missing(
    rows: pd.DataFrame, batch_size: int, work: Path, threads: int, compile: bool, sources
) -> tuple[list[pa.Table], dict]:
    """Sample `rows` and write every finished batch to `work`. Returns the batches, and what sampling used."""
    import torch

    from synaug.generation.pipelines import load_pipeline
    from synaug.generation.sampling import sample
    from synaug.generation.usage import UsageMeter
    from synaug.runtime.devices import device_name, leased_device

    torch.set_num_threads(threads)
    tables, sampled = [], 0
    # While a batch is sampled, one thread writes the batch before it, and others encode the images of that batch. On
    # leaving the block the writer is waited for before the encoders, which it needs.
    with leased_device() as device, ThreadPoolExecutor(threads) as encoders, ThreadPoolExecutor(1) as writer:
        meter = UsageMeter(device)
        columns = {"device": device_name(device), "threads": threads, "libraries": library_versions(compile)}
        being_written = None
        for _, alike in rows.groupby(_MODEL_COLUMNS, sort=True):
            pipeline = load_pipeline(alike.iloc[0], device, compile)
            size = batch_size or _batch_size_of_trial(pipeline, alike, sources, work)
            meter.model_loaded()
            log.info(
                "%s on %s, ready after %.1f s, batches of %d", alike["model"].iloc[0], device, meter.seconds(), size
            )
            for batch, pixels in sample(pipeline, alike, size, sources):
                if being_written is not None:
                    tables.append(being_written.result())
                being_written = writer.submit(_write_batch, batch, pixels, columns, work, encoders)
                sampled += len(batch)
                rate = meter.batch_sampled(len(batch))
                seconds_left = (len(rows) - sampled) / rate
                log.info("%d/%d images, %.1f images/s, %.0f s left", sampled, len(rows), rate, seconds_left)
        tables.append(being_written.result())
        chunks = [chunk for table in tables for chunk in table.column("image").chunks]
        encoded_bytes = sum(len(image) for chunk in chunks for image in encoded_images(chunk))
        return tables, meter.total(rows, encoded_bytes)


def _batch_size_of_trial(pipeline, rows: pd.DataFrame, sources, work: Path) -> int:
    """The batch size that a trial finds, kept in `work`.

    A job that continues after an interruption must not use another size, which could change a pixel by one level.
    """
    from synaug.generation.batch_size import find_batch_size

    file = work / f"batch_size_{text_hash(*rows[_MODEL_COLUMNS].iloc[0].tolist())[:8]}"
    if not file.exists():
        size = find_batch_size(pipeline, rows, sources)
        with atomic_path(file) as temporary:
            temporary.write_text(str(size))
    return int(file.read_text())


def _write_batch(batch: pd.DataFrame, pixels, columns: dict, work: Path, encoders: ThreadPoolExecutor) -> pa.Table:
    """Encode `pixels` and write them with the rows `batch` to `work`. columns: values that all images share."""
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
        **columns,
    )
    file = work / f"{batch['image_id'].iloc[0]}.parquet"
    write_manifest("shard", with_group(images)[SCHEMAS["shard"].names], file)
    return read_table("shard", file)


def library_versions(compile: bool) -> str:
    """Versions of the libraries that decide the last bits of an image, and whether the denoiser is compiled."""
    from importlib.metadata import version

    names = ("torch", "diffusers", "transformers", "pillow")
    versions = [f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)]
    return ", ".join([*versions, "compiled"] if compile else versions)
