"""Make one shard: copy the images that exist, sample the others, and write all of them to one file.

Finished batches go to a work folder that is not an output of the rule, since Snakemake deletes the outputs of a killed
job. Files of batches, and all files that images are copied from, have the schema of shards.
"""

import hashlib
import json
import logging
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from synaug.generation.encoding import encode
from synaug.generation.kept_batches import KeptBatches
from synaug.generation.stored_images import DESCRIBING, NO_IMAGES, images_for, intact_images
from synaug.images.tables import ImageTable
from synaug.manifests import with_group, write_shard
from synaug.manifests.schemas import IMAGE, SCHEMAS
from synaug.runtime.errors import UserError, short_text
from synaug.runtime.files import atomic_path, delete_leftovers, text_hash

log = logging.getLogger(__name__)

_PLAN_COLUMNS = [name for name in SCHEMAS["shard"].names if name not in ("image", *DESCRIBING)]
# Row groups of finished batches are small, because the images are merged into the shard in another order.
_BATCH_GROUP_BYTES = 1 << 20
_ATTENTION = "attention "
# Columns that decide what is loaded. A shard may need several models.
_MODEL_COLUMNS = ["pipeline", "model", "model_version", "variant", "adapters", "scheduler", "dtype"]


def generate_shard(
    rows: pd.DataFrame,
    batch_size: int,
    out: Path,
    work: Path,
    existing: Iterable[Path],
    threads: int,
    *,
    compile: bool | Literal["auto"] = False,
    attention: str = "",
    plan: Path | None = None,
    sources: Mapping[str, np.ndarray] | None = None,
    cost_file: Path | None = None,
    kept: KeptBatches | None = None,
) -> dict[str, int]:
    """Write the images of `rows` (manifest `plan`, all of one shard) as the manifest `shard` to `out`.

    batch_size: images sampled together; 0: found by a trial. existing: files from which images with the same ids are
    copied; a damaged file is skipped, and if one is gone, they are iterated again. work: folder for finished batches,
    from which a killed job continues; deleted at the end. An earlier `out` gets a second name there, so that its images
    are copied even if Snakemake deletes `out` after a failure. threads: of the CPU, for sampling and for encoding.
    compile: whether to compile the model; auto: on CUDA, if that pays for the images of the manifest `plan` (None: for
    `rows`). attention, sources: see `load_pipeline` and `sample`.
    cost_file: where to write what sampling used (JSON, see `UsageMeter.total`), if anything was sampled.
    kept: copies of the work folder, from which a job on another machine continues; deleted at the end, too.
    Returns {"copied", "sampled"}: numbers of images.
    torch and diffusers are not imported if nothing has to be sampled.
    """
    if kept:
        kept.fetch()
    resumed = _intact_images(rows["image_id"], sorted(work.glob("*.parquet")))
    _link(out, work / "earlier.parquet")
    copied = _intact_images(rows["image_id"][~rows["image_id"].isin(resumed["image_id"])], existing)
    stored = [resumed, copied]
    missing = rows[~rows["image_id"].isin([*resumed["image_id"], *copied["image_id"]])]
    log.info(
        "%d images wanted: %d finished before, %d copied, %d to sample",
        len(rows),
        len(resumed),
        len(copied),
        len(missing),
    )
    if len(missing):
        sampled, usage = _sample_missing(
            missing, batch_size, work, threads, sources, compile, attention, plan, rows, kept
        )
        stored += sampled
        if cost_file:
            _write_cost(cost_file, usage)
    elif cost_file:
        delete_leftovers(cost_file)  # of a job that was killed when everything was sampled
    rows = rows.reset_index(drop=True)
    images = pd.concat([part for part in stored if len(part)]).set_index("image_id")
    images = images.loc[rows["image_id"]].reset_index()
    written = [name for name in DESCRIBING if name != "sha256"]
    try:
        size = int(images["bytes"].sum())
        write_shard(rows[_PLAN_COLUMNS].join(images[written]), images_for(rows, images), out, size)
    except UserError:
        if all(Path(file).exists() for file in images["file"].unique()):
            raise
        log.info("another job has moved images that are copied: they are looked up again")
        if len(missing):  # as between two models, see `_sample_missing`
            from diffusers.training_utils import free_memory

            free_memory()
        again = {"compile": compile, "attention": attention, "plan": plan, "sources": sources, "cost_file": cost_file}
        return generate_shard(rows, batch_size, out, work, existing, threads, **again, kept=kept)
    shutil.rmtree(work, ignore_errors=True)
    if kept:
        kept.delete()
    return {"copied": len(copied), "sampled": len(missing) + len(resumed)}


def _link(file: Path, link: Path) -> None:
    """Make `link` a second name of `file`, if it exists: on a cluster, Snakemake deletes the outputs of a failed job.

    It only saves time: where hard links are impossible, the images of a failed job are sampled again.
    """
    if file.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        with suppress(OSError):
            link.hardlink_to(file)


def _write_cost(file: Path, usage: dict) -> None:
    """Write what sampling used. If that fails, the shard is finished all the same: costs are only informative."""
    try:
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(usage) + "\n")
    except (UserError, OSError) as error:
        log.warning("%s: the cost of this shard is not recorded (%s)", file, short_text(error.__cause__ or error))


def _intact_images(wanted: Iterable[str], files: Iterable[Path]) -> pd.DataFrame:
    """The images with the ids `wanted` that lie in `files`, as `intact_images` describes them, each id once.

    files: iterated again if one of them is gone.
    Copying only saves time: an image that cannot be read, and lies in no other file, is sampled again.
    """
    wanted, parts = set(wanted), []
    useless: set[Path] = set()  # damaged or gone
    found = list(files)
    while wanted and found:
        for file, located in _find_images(wanted, found).groupby("file", sort=False):
            intact = NO_IMAGES
            try:
                intact = intact_images(file, located["row"])
            except Exception as error:
                log.warning("%s: skipped: %s", file, error)
            if len(intact) < len(located):
                useless.add(file)
            if len(intact):
                parts.append(intact)
                wanted -= set(intact["image_id"])
        gone = {file for file in found if not file.exists()}
        useless |= gone
        if useless.isdisjoint(found):
            break
        # Gone: another job has moved its batches into a shard, which a new look-up finds.
        found = [file for file in (list(files) if gone else found) if file not in useless]
    return pd.concat(parts, ignore_index=True) if parts else NO_IMAGES


def _find_images(wanted: set[str], files: Iterable[Path]) -> pd.DataFrame:
    """Where the images with the ids `wanted` are, each id once: columns image_id, file, row. Only ids are read."""
    missing, parts = set(wanted), []
    for file in files:
        if not missing:
            break
        damaged: dict[int, str] = {}
        value_set = pa.array(list(missing), pa.string())
        try:
            with ImageTable(file) as table:
                for rows, batch in table.stream(["image_id"], damaged=damaged):
                    # Every job reads the ids of every shard: Python sets would take three times as long.
                    ids = batch.column("image_id")
                    positions = pc.indices_nonzero(pc.is_in(ids, value_set=value_set)).to_numpy()
                    if len(positions):
                        ids = ids.take(pa.array(positions)).to_pylist()
                        parts.append(pd.DataFrame({"image_id": ids, "file": file, "row": rows[positions]}))
                        missing -= set(ids)
        except Exception as error:
            log.warning("%s: skipped: %s", file, error)
        for reason in dict.fromkeys(damaged.values()):
            log.warning("%s: %s", file, reason)
    located = pd.concat(parts) if parts else pd.DataFrame(columns=["image_id", "file", "row"])
    return located.drop_duplicates("image_id")


def _sample_missing(
    rows: pd.DataFrame,
    batch_size: int,
    work: Path,
    threads: int,
    sources,
    compile: bool | Literal["auto"],
    attention: str,
    plan: Path | None,
    shard: pd.DataFrame,
    kept: KeptBatches | None,
) -> tuple[list[pd.DataFrame], dict]:
    """Sample `rows` and write every finished batch to `work`. Returns the stored images, and what sampling used.

    shard: all rows of the shard. The other arguments are those of `generate_shard`.
    """
    import torch
    from diffusers.training_utils import free_memory

    from synaug.generation.compilation import compile_if_wanted
    from synaug.generation.pipelines import check_rows, load_pipeline
    from synaug.generation.sampling import sample
    from synaug.generation.usage import UsageMeter
    from synaug.runtime.devices import device_name, leased_device

    torch.set_num_threads(threads)
    batches, sampled = [], 0
    # While a batch is sampled, one thread writes the batch before it, and others encode the images of that batch. On
    # leaving the block the writer is waited for before the encoders, which it needs.
    with leased_device() as device, ThreadPoolExecutor(threads) as encoders, ThreadPoolExecutor(1) as writer:
        meter = UsageMeter(device)
        of_model = dict(iter(shard.groupby(_MODEL_COLUMNS)))
        being_written = None
        for number, (model, alike) in enumerate(rows.groupby(_MODEL_COLUMNS, sort=True)):
            if number:
                free_memory()  # a pipeline refers to itself: without this, the model before would still be in memory
            pipeline = load_pipeline(alike.iloc[0], device, attention)
            check_rows(pipeline, alike)
            size = batch_size or _batch_size_of_trial(pipeline, alike, sources, work)
            compiled = compile_if_wanted(
                pipeline,
                alike,
                size,
                sources,
                compile=compile,
                device=device,
                plan=plan,
                shard=of_model[model],
                decision=_kept_in(work, "compiled", alike),
            )
            decisions = [_kept_in(work, name, alike) for name in ("batch_size", "compiled")]
            if kept:
                kept.send([file.name for file in decisions if file.exists()])
            libraries = library_versions(compiled, attention)
            columns = {"device": device_name(device), "threads": threads, "libraries": libraries}
            meter.model_loaded()
            log.info(
                "%s on %s, ready after %.1f s, batches of %d", alike["model"].iloc[0], device, meter.seconds(), size
            )
            for batch, pixels in sample(pipeline, alike, size, sources):
                if being_written is not None:
                    batches.append(being_written.result())
                being_written = writer.submit(_write_batch, batch, pixels, columns, work, encoders, kept)
                sampled += len(batch)
                rate = meter.batch_sampled(len(batch))
                seconds_left = (len(rows) - sampled) / rate
                log.info("%d/%d images, %.1f images/s, %.0f s left", sampled, len(rows), rate, seconds_left)
            del pipeline
        batches.append(being_written.result())
        return batches, meter.total(rows, int(sum(batch["bytes"].sum() for batch in batches)))


def _batch_size_of_trial(pipeline, rows: pd.DataFrame, sources, work: Path) -> int:
    """The batch size that a trial finds, kept in `work`.

    A job that continues after an interruption must not use another size, which could change a pixel by one level.
    """
    from synaug.generation.batch_size import find_batch_size

    file = _kept_in(work, "batch_size", rows)
    if not file.exists():
        size = find_batch_size(pipeline, rows, sources)
        with atomic_path(file) as temporary:
            temporary.write_text(str(size))
    return int(file.read_text())


def _kept_in(work: Path, name: str, rows: pd.DataFrame) -> Path:
    """The file in `work` that keeps what was decided about the model of `rows`."""
    return work / f"{name}_{text_hash(*rows[_MODEL_COLUMNS].iloc[0].tolist())[:8]}"


def _write_batch(
    batch: pd.DataFrame, pixels, columns: dict, work: Path, encoders: ThreadPoolExecutor, kept: KeptBatches | None
) -> pd.DataFrame:
    """Encode `pixels` and write them with the rows `batch` to `work` and `kept`.

    columns: values that all images share.
    """
    rows = batch.to_dict("records")
    encoded = list(encoders.map(lambda image, row: encode(image, row, row["format"]), pixels, rows))

    def images(order: np.ndarray) -> Iterator[pa.Table]:
        for position in order.tolist():
            data, row = encoded[position], rows[position]
            image = {"bytes": data, "path": f"{row['image_id']}.{row['format']}"}
            yield pa.table({"image": pa.array([image], IMAGE), "sha256": [hashlib.sha256(data).hexdigest()]})

    described = with_group(batch.assign(width=pixels.shape[2], height=pixels.shape[1], **columns))
    names = [name for name in SCHEMAS["shard"].names if name not in ("image", "sha256")]
    file = work / f"{batch['image_id'].iloc[0]}.parquet"
    write_shard(described[names], images, file, sum(map(len, encoded)), _BATCH_GROUP_BYTES)
    if kept:
        kept.send([file.name])
    return _intact_images(batch["image_id"], [file])


def library_versions(compiled: bool, attention: str) -> str:
    """What decides the last bits of an image: versions of libraries, compilation, attention backend."""
    from importlib.metadata import version

    names = ("torch", "diffusers", "transformers", "pillow")
    versions = [f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)]
    # "compiled" alone, in older shards: only the repeated blocks of the denoiser were.
    versions += ["compiled denoiser and decoder"] if compiled else []
    return ", ".join([*versions, f"{_ATTENTION}{attention}"] if attention else versions)


def recorded_attention(libraries: str) -> str:
    """The attention backend in a text of `library_versions`; empty: the default of diffusers."""
    words = (word for word in libraries.split(", ") if word.startswith(_ATTENTION))
    return next((word.removeprefix(_ATTENTION) for word in words), "")
