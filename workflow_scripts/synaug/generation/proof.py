"""Whether images can be made again from their rows alone."""

import hashlib
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from synaug.images.codec import decode_image
from synaug.images.store import encoded_images
from synaug.integrity import find_experiments, stored_files
from synaug.manifests import read_manifest, read_table
from synaug.manifests.schemas import SCHEMAS
from synaug.runtime.errors import UserError, one_line

# What is loaded once, and how many images of which size share a batch on how many threads.
_ALIKE = [
    "pipeline", "model", "model_version", "adapters", "scheduler", "dtype", "size", "batch_size", "threads", "libraries"
]  # fmt: skip


@dataclass
class Outcome:
    """What became of one image that was to be made again."""

    image_id: str
    status: str  # same, differs or cannot
    detail: str  # one line, empty if there is nothing to say


def find_rows(image_ids: Iterable[str], folder: Path) -> pd.DataFrame:
    """Rows of the manifest `shard`, with columns `data` (the encoded image) and `file` (path of the shard).

    image_ids: whole, or beginnings that only one image has. folder: results/, or an experiment in it. An image that
    several shards hold is taken from the first. Raises UserError for an id that no or more than one image has.
    """
    wanted = list(dict.fromkeys(image_ids))
    found: dict[str, set] = {one: set() for one in wanted}
    places: dict[str, tuple[Path, int]] = {}
    unreadable = []
    for experiment in find_experiments(folder):
        for file in stored_files(experiment):
            try:
                ids = read_table("shard", file, ["image_id"]).column("image_id").to_pylist()
            except UserError:  # `synaug verify` tells more
                unreadable.append(file)
                continue
            for row, image_id in enumerate(ids):
                for one in wanted:
                    if image_id.startswith(one):
                        found[one].add(image_id)
                        places.setdefault(image_id, (file, row))
    for one, ids in found.items():
        if not ids:
            unread = f" ({len(unreadable)} cannot be read, see synaug verify)" if unreadable else ""
            raise UserError(f"{one}: no shard in {folder} holds an image with this id{unread}")
        if len(ids) > 1:
            raise UserError(f"{one}: {len(ids)} images in {folder} have ids that begin so; give more of it")
    chosen = pd.DataFrame(list(dict.fromkeys(places.values())), columns=["file", "row"])
    return pd.concat([_rows_of(file, rows) for file, rows in chosen.groupby("file", sort=True)["row"]])


def _rows_of(file: Path, rows: pd.Series) -> pd.DataFrame:
    columns = [name for name in SCHEMAS["shard"].names if name != "image"]
    data = encoded_images(read_table("shard", file, ["image"]).column("image").take(pa.array(rows)))
    return read_manifest("shard", file, columns).iloc[rows].assign(data=data, file=file)


def regenerate(
    rows: pd.DataFrame, device: str | None = None, model: str | None = None, say: Callable[[str], None] = lambda _: None
) -> Iterator[Outcome]:
    """Make the images of `rows` (of `find_rows`) again and compare them with what is stored, one after the other.

    device: where; None: leased as for a job. model: folder in which their model lies now, if it has moved. say: told
    what is being done. With the batch size and threads of each row, since those change the last bits.
    """
    import torch

    from synaug.generation.encoding import encode
    from synaug.generation.pipelines import load_pipeline
    from synaug.generation.sampling import sample
    from synaug.runtime.devices import leased_device

    if model is not None:
        rows = rows.assign(model=model)
    threads_before = torch.get_num_threads()
    with nullcontext(device) if device else leased_device() as place:
        try:
            for _, alike in rows.groupby(_ALIKE, sort=True):
                first = alike.iloc[0]
                say(
                    f"{first['model']} on {place}, batches of {first['batch_size']}: {len(alike)} of {len(rows)} images"
                )
                left = set(alike["image_id"])
                torch.set_num_threads(int(first["threads"]))
                try:
                    pipeline = load_pipeline(first, place, compile="compiled" in first["libraries"])
                    for batch, pixels in sample(pipeline, alike, int(first["batch_size"]), _sources(alike)):
                        for row, made in zip(batch.to_dict("records"), pixels, strict=True):
                            asked = int(first["batch_size"])
                            yield _compare(row, encode(made, row, row["format"]), place, asked)
                            left.discard(row["image_id"])
                except UserError as error:
                    yield from (Outcome(one, "cannot", one_line(error)) for one in sorted(left))
        finally:
            torch.set_num_threads(threads_before)


def _sources(rows: pd.DataFrame) -> Mapping[str, np.ndarray] | None:
    """The real images that `rows` start from, of the experiments in whose shards they lie."""
    if rows["source_image"].isna().all():
        return None
    from synaug.generation.sources import RealImages

    size = int(rows["size"].iloc[0])
    homes = rows["file"].map(lambda file: file.parents[1] if file.parent.name == "shards" else file.parent)
    return ChainMap(
        *(RealImages(home / "real.parquet", ids, size) for home, ids in rows.groupby(homes)["source_image"])
    )


def _compare(row: dict, made: bytes, device: str, batch_size: int) -> Outcome:
    stored, recorded = row["data"], row["sha256"]
    damaged = hashlib.sha256(stored).hexdigest() != recorded
    if hashlib.sha256(made).hexdigest() == recorded:
        note = f"but {row['file']} no longer holds what was recorded; run synaug verify" if damaged else ""
        return Outcome(row["image_id"], "same", note)
    reasons = _reasons(row, device, batch_size)
    why = f" ({'; '.join(reasons)})" if reasons else " (device, libraries, batch size and threads are as recorded)"
    if damaged:
        what = f"from the recorded hash; what {row['file']} holds is damaged, so it cannot be said by how much"
        return Outcome(row["image_id"], "differs", what + why)
    size, color = row["stored_size"], row["color"]
    old, new = (decode_image(data, size, color).astype(int) for data in (stored, made))
    levels = np.abs(old - new)
    if levels.max() == 0:
        return Outcome(row["image_id"], "differs", "in the file but in no pixel" + why)
    what = f"by {levels.max()} of 255 levels at most, {levels.mean():.4f} in the mean"
    return Outcome(row["image_id"], "differs", what + why)


def _reasons(row: dict, device: str, batch_size: int) -> list[str]:
    """What is not as it was when the image was made."""
    from synaug.generation.shards import libraries
    from synaug.plan.rows import SAMPLER_VERSION
    from synaug.runtime.devices import device_name

    pairs = [
        ("device", row["device"], device_name(device)),
        ("libraries", row["libraries"], libraries("compiled" in row["libraries"])),
        ("sampler version", row["sampler_version"], SAMPLER_VERSION),
        ("batch size", batch_size, row["batch_size"]),  # memory did not last for the recorded one
    ]
    reasons = []
    for name, then, now in pairs:
        if then != now:
            if name == "libraries":
                old, new = set(then.split(", ")), set(now.split(", "))
                then, now = ", ".join(sorted(old - new)), ", ".join(sorted(new - old))
            reasons.append(f"{name}: made with {then}, here {now}")
    return reasons
