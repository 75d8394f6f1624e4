"""`synaug regenerate`: generate images again from their rows alone, and compare them with the stored images."""

import hashlib
import logging
import os
import sys
from collections import ChainMap, Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from synaug.commands.verify import find_experiments
from synaug.generation.encoding import encode
from synaug.generation.shards import library_versions, recorded_attention
from synaug.generation.sources import RealImages
from synaug.images.codec import decode_image
from synaug.images.store import read_encoded
from synaug.manifests import read_manifest, read_table
from synaug.manifests.schemas import SCHEMAS
from synaug.plan.rows import SAMPLER_VERSION
from synaug.plan.shards import files_with_images
from synaug.runtime.devices import device_name, leased_device
from synaug.runtime.errors import UserError, one_line, short_text

# Images with equal values in these columns are sampled in the same batches, by a pipeline that is loaded once.
_BATCH_COLUMNS = [
    "pipeline", "model", "model_version", "variant", "adapters", "scheduler", "dtype", "size", "batch_size", "threads",
    "libraries",
]  # fmt: skip


@dataclass
class Outcome:
    """The result for one image. status: same, differs, or cannot. detail: one line; empty: nothing to add."""

    image_id: str
    status: str
    detail: str


def find_rows(image_ids: Iterable[str], folder: Path) -> pd.DataFrame:
    """Rows of the manifest `shard`, with the columns `data` (the encoded image) and `file` (the path of the shard).

    image_ids: whole ids, or beginnings of unique ids. folder: results/, or an experiment in it. If several shards hold
    an image, its row is that of the first. Raises UserError for an id that no image has, or more than one.
    """
    beginnings = list(dict.fromkeys(image_ids))
    matches: dict[str, set[str]] = {beginning: set() for beginning in beginnings}
    locations: dict[str, tuple[Path, int]] = {}  # image_id -> shard, row
    unreadable = 0
    for file in files_with_images(find_experiments(folder)):
        try:
            ids = read_table("shard", file, ["image_id"]).column("image_id").to_pylist()
        except UserError:
            unreadable += 1
            continue
        for row, image_id in enumerate(ids):
            for beginning in beginnings:
                if image_id.startswith(beginning):
                    matches[beginning].add(image_id)
                    locations.setdefault(image_id, (file, row))
    for beginning, ids in matches.items():
        if not ids:
            note = f" ({unreadable} cannot be read, see synaug verify)" if unreadable else ""
            raise UserError(
                f"{beginning}: no shard in {folder} holds an image with this id{note}",
                advice="give an image_id of synthetic.parquet, or its first characters",
            )
        if len(ids) > 1:
            raise UserError(
                f"{beginning}: {len(ids)} images in {folder} have ids that begin like this",
                advice="give more characters of the id",
            )
    chosen = pd.DataFrame(list(dict.fromkeys(locations.values())), columns=["file", "row"])
    return pd.concat([_read_rows(file, rows) for file, rows in chosen.groupby("file", sort=True)["row"]])


def _read_rows(file: Path, rows: pd.Series) -> pd.DataFrame:
    columns = [name for name in SCHEMAS["shard"].names if name != "image"]
    images: dict[int, bytes | None] = {}
    for positions, encoded in read_encoded(pd.DataFrame({"path": str(file), "row": rows.to_numpy()})):
        images.update(zip(positions.tolist(), encoded, strict=True))
    data = [images[position] for position in range(len(rows))]
    return read_manifest("shard", file, columns).iloc[rows].assign(data=data, file=file)


def regenerate_images(
    rows: pd.DataFrame,
    device: str | None = None,
    model: str | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> Iterator[Outcome]:
    """Generate the images of `rows` (of `find_rows`) again, and compare each with the stored image.

    device: None: a free one, leased as for a job. model: the folder of their model, if it has moved. report: called
    with a line of text before each group of batches. Batch size and threads are those of each row, since they change
    the last bits of an image.
    """
    import torch
    from diffusers.training_utils import free_memory

    from synaug.generation.compilation import compile_pipeline
    from synaug.generation.pipelines import load_pipeline
    from synaug.generation.sampling import sample

    if model is not None:
        rows = rows.assign(model=model)
    threads_before = torch.get_num_threads()
    with nullcontext(device) if device else leased_device() as device:
        try:
            for _, group in rows.groupby(_BATCH_COLUMNS, sort=True):
                first = group.iloc[0]
                batch_size = int(first["batch_size"])
                report(f"{first['model']} on {device}, batches of {batch_size}: {len(group)} of {len(rows)} images")
                remaining = set(group["image_id"])
                torch.set_num_threads(int(first["threads"]))
                try:
                    attention = recorded_attention(first["libraries"])
                    pipeline, sources = load_pipeline(first, device, attention), _sources(group)
                    compiled = "compiled" in first["libraries"]
                    compiled = compiled and compile_pipeline(pipeline, group, batch_size, sources)
                    for batch, pixels in sample(pipeline, group, batch_size, sources):
                        for row, image in zip(batch.to_dict("records"), pixels, strict=True):
                            yield _compare(row, encode(image, row, row["format"]), device, batch_size, compiled)
                            remaining.discard(row["image_id"])
                except UserError as error:
                    yield from (Outcome(image_id, "cannot", one_line(error)) for image_id in sorted(remaining))
                pipeline = None
                free_memory()  # the pipeline refers to itself: without this, two would be in memory
        finally:
            torch.set_num_threads(threads_before)


def _sources(rows: pd.DataFrame) -> Mapping[str, np.ndarray] | None:
    """The real images from which the images of `rows` were generated (image-to-image); None: there are none."""
    if rows["source_image"].isna().all():
        return None
    size = int(rows["size"].iloc[0])
    experiments = rows["file"].map(lambda file: file.parents[1] if file.parent.name == "shards" else file.parent)
    by_experiment = rows.groupby(experiments)["source_image"]
    return ChainMap(*(RealImages(experiment / "real.parquet", ids, size) for experiment, ids in by_experiment))


def _compare(row: dict, generated: bytes, device: str, recorded_batch_size: int, compiled: bool) -> Outcome:
    """Compare an image with the stored one. row: its row in the shard, with the batch size of now.

    compiled: whether the model that generated it now is compiled.
    """
    stored, recorded_hash = row["data"], row["sha256"]
    damaged = hashlib.sha256(stored).hexdigest() != recorded_hash
    if hashlib.sha256(generated).hexdigest() == recorded_hash:
        note = f"but the image in {row['file']} is damaged; run synaug verify" if damaged else ""
        return Outcome(row["image_id"], "same", note)
    conditions = _changed_conditions(row, device, recorded_batch_size, compiled)
    note = (
        f" ({'; '.join(conditions)})" if conditions else " (device, libraries, batch size and threads are as recorded)"
    )
    if damaged:
        detail = f"from the recorded hash, by an unknown amount: the image in {row['file']} is damaged"
        return Outcome(row["image_id"], "differs", detail + note)
    size, color = row["stored_size"], row["color"]
    old, new = (decode_image(data, size, color).astype(int) for data in (stored, generated))
    levels = np.abs(old - new)
    if levels.max() == 0:
        return Outcome(row["image_id"], "differs", "in the file but in no pixel" + note)
    detail = f"by at most {levels.max()} of 255 levels, {levels.mean():.4f} in the mean"
    return Outcome(row["image_id"], "differs", detail + note)


def _changed_conditions(row: dict, device: str, recorded_batch_size: int, compiled: bool) -> list[str]:
    """The conditions of sampling that differ from the recorded ones."""
    libraries = library_versions(compiled, recorded_attention(row["libraries"]))
    conditions = [
        ("device", row["device"], device_name(device)),
        ("libraries", row["libraries"], libraries),
        ("sampler version", row["sampler_version"], SAMPLER_VERSION),
        ("batch size", recorded_batch_size, row["batch_size"]),  # `sample` halves it if memory is short
    ]
    changed = []
    for name, then, now in conditions:
        if then != now:
            if name == "libraries":
                old, new = set(then.split(", ")), set(now.split(", "))
                then, now = ", ".join(sorted(old - new)), ", ".join(sorted(new - old)) or "without"
            changed.append(f"{name}: recorded {then}, now {now}")
    return changed


def _check_device(device: str) -> None:
    """Raise UserError if torch does not have this device."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"--device: {device} cannot be used ({short_text(error)})", advice="name cpu or cuda:0"
        ) from None


def regenerate(
    image_ids: Annotated[list[str], typer.Argument(help="Ids of synthetic images, or their first characters.")],
    results: Annotated[Path, typer.Option(help="Folder in which to look for them: results/, or an experiment.")] = Path(
        "results"
    ),
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda:1, ...  [default: a free one]", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option(help="Folder of their model, if it has moved.")] = None,
) -> None:
    """Generate images again and compare them.

    Images are generated from their rows alone, and compared by the hash of the file. The result for each is: same;
    differs, with the amount and the conditions that changed since then; or cannot, with the reason. Call it in the
    folder from which snakemake is called: paths in the rows are relative to it.

    Exit status: 0 all are the same, 1 an image differs, 2 an image cannot be generated.

    \b
    Example:
      synaug regenerate 4da9041f
    """
    if device is not None:
        _check_device(device)
    os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries draw a bar for each part of each model
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    rows = find_rows(image_ids, results)
    count = Counter()
    for outcome in regenerate_images(rows, device, model, lambda text: print(text, file=sys.stderr, flush=True)):
        count[outcome.status] += 1
        print(f"{outcome.image_id} {outcome.status}{': ' if outcome.detail else ''}{outcome.detail}", flush=True)
    raise typer.Exit(1 if count["differs"] else 2 if count["cannot"] else 0)
