"""The tables of benchmarks/scale.py and what is measured with them, each in a process of its own.

    python benchmarks/scale_parts.py prepare plan 10000 FOLDER     # makes what a part reads, in FOLDER
    python benchmarks/scale_parts.py measure plan 10000 FOLDER     # runs it once; the last line is one JSON object

The data set is ImageNet-LT's in shape: 1,000 classes of 1,280 to 5 training images, 115,846 in all, and 50,000 test
images; another size has all counts multiplied. `rows` of a part are those of the manifest that it is about: `real` for
index and imbalance, `plan` for plan and replan, `scores` for screen, `balanced` for balance, `synthetic` for quality.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from balance import build_balanced_manifest
from dataset import index_dataset
from imbalance import measure_imbalance
from plan import plan_generation
from screening import measure_quality, screen_synthetic
from synaug.config import Config, Dataset
from synaug.datasets import fingerprint
from synaug.images.codec import encode_image
from synaug.manifests import read_manifest, write_manifest, write_sorted
from synaug.manifests.schemas import SCHEMAS

CLASSES, REAL, LARGEST, SMALLEST, TESTED = 1000, 115_846, 1280, 5, 50
WANTED = LARGEST * CLASSES - REAL  # 1,164,154 synthetic images fill all classes
TABLE = REAL + TESTED * CLASSES
PROMPT = "a photo of a {label}, {modifier}"
# Everything that is judged from scores is on. The networks are not: their scores are made up.
SCREENING = {
    "text_image": {"model": "none", "revision": "none", "min_score": 0.2},
    "classifier": {"min_confidence": 0.05},
    "duplicates": {"max_hash_distance": 4, "min_similarity": 0.98},
    "leakage": {"max_hash_distance": 4, "min_similarity": 0.98},
}
REJECTED = 0.1  # share of the synthetic images; each costs more than an accepted one, since it gets a reason


def config(folder: Path, images_per_shard: int = 2000) -> dict:
    """The experiment: experiments/imagenet_lt.yaml as far as it matters here, its lists in `folder`."""
    return {
        "experiment": "scale",
        "dataset": {"source": "image_list", "path": f"{folder}/images", "image_size": 64}
        | {"lists": {split: f"{folder}/{split}.txt" for split in ("train", "test")}},
        "prompts": {"templates": [PROMPT], "modifiers": "general"},
        "generation": {"model": "hub/model", "revision": "0" * 40, "size": 512, "format": "webp", "dtype": "float16"}
        | {
            "images_per_shard": images_per_shard,
            "scheduler": "DPMSolverMultistepScheduler",
            "steps": 20,
            "guidance": 2.0,
            "licence": "CreativeML Open RAIL-M",
        },
        "recipes": {"real": {"data": "real"}, "synaug": {"data": "balanced", "stage2": {"steps": 500}}},
    }


def class_counts(factor: float) -> np.ndarray:
    """Training images of every class, the largest first: a power law with ImageNet-LT's ends and sum, x `factor`."""
    tail = (1 - np.arange(CLASSES) / (CLASSES - 1)) ** 10.5
    counts = SMALLEST + np.round((LARGEST - SMALLEST) * tail).astype(int)
    # The few images that rounding and the exponent leave over go to classes in the middle, the ends stay.
    short = REAL - counts.sum()
    middle = np.arange(abs(short)) % 200 + 100
    np.add.at(counts, middle, np.sign(short))
    return np.maximum(1, np.round(counts * factor)).astype(int)


def texts(values: list[str], repeats: np.ndarray) -> pa.DictionaryArray:
    """`values[i]` `repeats[i]` times, as the dictionaries that manifests hold."""
    return pa.DictionaryArray.from_arrays(np.repeat(np.arange(len(values), dtype=np.int32), repeats), values)


def hashes(count: int, digits: int, seed: int) -> pa.StringArray:
    """`count` random numbers of `digits` hexadecimal digits; without a Python object each, since there are millions."""
    data = np.random.default_rng(seed).bytes(count * digits // 2).hex().encode()
    offsets = np.arange(0, count * digits + 1, digits)
    return pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(data))


def manifest_table(kind: str, columns: dict) -> pa.Table:
    """Rows of the manifest `kind`: `columns`, and nulls in the others."""
    rows = len(columns["image_id"])
    columns = {"group": texts([""], [rows]), "fill": texts([""], [rows])} | columns
    arrays = [columns.get(field.name, pa.nulls(rows, field.type)) for field in SCHEMAS[kind]]
    return pa.Table.from_arrays(arrays, names=SCHEMAS[kind].names).cast(SCHEMAS[kind])


def manifest_writer(kind: str, path: Path) -> pq.ParquetWriter:
    """A writer of tables of `manifest_table`, which are in the manifest's order."""
    repeated = [field.name for field in SCHEMAS[kind] if pa.types.is_dictionary(field.type)]
    return pq.ParquetWriter(path, SCHEMAS[kind], compression="ZSTD", use_dictionary=repeated)


def cells(counts: np.ndarray) -> dict:
    """Columns label and label_name of `counts` rows of every class."""
    names = [f"class {label:04}" for label in range(CLASSES)]
    return {"label": np.repeat(np.arange(CLASSES, dtype=np.int32), counts), "label_name": texts(names, counts)}


def write_real(factor: float, path: Path) -> None:
    """The manifest `real`."""
    tested = np.full(CLASSES, max(1, round(TESTED * factor)))
    parts = []
    for split, counts in (("test", tested), ("train", class_counts(factor))):
        total, at = counts.sum(), cells(counts)
        ids = pa.table({"label": at["label"], "image_id": hashes(total, 24, 0)})
        ids = ids.sort_by([("label", "ascending"), ("image_id", "ascending")]).combine_chunks()
        paths = pa.array([f"images/{split}/{i:08}.png" for i in range(total)])
        sizes = dict.fromkeys(("width", "height"), np.full(total, 32, np.int32))
        parts.append(
            {"image_id": ids.column("image_id"), "split": texts([split], [total]), **at, "path": paths, **sizes}
            | {"sha256": hashes(total, 64, 1), "usable": np.ones(total, bool)}
        )
    table = pa.concat_tables([pa.table(part) for part in parts]).unify_dictionaries()
    rows = (table.slice(start, 131072) for start in range(0, len(table), 131072))
    write_sorted("real", rows, len(table), path)


def write_scores(factor: float, path: Path) -> None:
    """The manifest `scores` of random scores; `REJECTED` of the images fail a check. Written some classes at a time."""
    counts = class_counts(factor)
    counts = counts.max() - counts
    path.parent.mkdir(parents=True, exist_ok=True)
    with manifest_writer("scores", path) as writer:
        for classes in np.array_split(np.arange(CLASSES), -(-int(counts.sum()) // 2_000_000)):
            chosen = np.zeros(CLASSES, int)
            chosen[classes] = counts[classes]
            if chosen.any():
                writer.write_table(
                    manifest_table("scores", scores_columns(chosen, seed=10 * CLASSES + int(classes[0]))), 131072
                )


def scores_columns(counts: np.ndarray, seed: int) -> dict:
    """Columns of the manifest `scores` for `counts` images of every class."""
    total, rng = counts.sum(), np.random.default_rng(seed)
    index = np.arange(total, dtype=np.int32) - np.repeat(np.cumsum(counts) - counts, counts).astype(np.int32)
    sizes = [(label, min(2000, count - at)) for label, count in enumerate(counts) for at in range(0, count, 2000)]
    names = [f"results/scale/shards/{label:08}{i:08}.parquet" for i, (label, _) in enumerate(sizes)]
    ids = hashes(total, 24, seed)

    def scores(share: float, fail: tuple[float, float], others: tuple[float, float]) -> np.ndarray:
        """Of `share` of the rejected images one that fails, of the others one that does not."""
        return np.where(rng.random(total) < share * REJECTED, rng.uniform(*fail, total), rng.uniform(*others, total))

    near = {}
    for name, neighbours in (
        ("earlier", None),
        ("train", hashes(total, 24, CLASSES + seed)),
        ("test", hashes(total, 24, 2 * CLASSES + seed)),
    ):
        if neighbours is None:  # the image before, which the first of a class does not have
            neighbours = ids.take(pa.array(np.arange(total) - 1, mask=index == 0))
        near |= dict.fromkeys((f"nearest_{name}", f"hash_nearest_{name}"), neighbours)
        near[f"nearest_{name}_distance"] = pa.array(scores(0.05, (0, 5), (5, 30)).astype(np.int32))
        near[f"nearest_{name}_similarity"] = scores(0.05, (0.98, 1), (0.5, 0.97)).astype(np.float32)
    columns = {"image_id": ids, **cells(counts), "index": index, "path": texts(names, [size for _, size in sizes])}
    columns |= {"row": np.arange(total), "column": texts(["image"], [total])}
    columns |= {"sha256": hashes(total, 64, 3 * CLASSES + seed), **near}
    columns |= dict.fromkeys(("width", "height"), np.full(total, 64, np.int32))
    columns["contrast"] = scores(0.1, (0, 2), (20, 80))
    columns["text_image_score"] = scores(0.3, (0, 0.2), (0.2, 0.4)).astype(np.float32)
    columns["classifier_confidence"] = scores(0.3, (0, 0.05), (0.06, 1)).astype(np.float32)
    return columns


def write_files(factor: float, folder: Path) -> None:
    """Image files of 32 x 32 random pixels, <folder>/images/<split>/<class>/<number>.png, and lists of them."""
    rng = np.random.default_rng(0)
    tested = np.full(CLASSES, max(1, round(TESTED * factor)))
    for split, counts in (("train", class_counts(factor)), ("test", tested)):
        lines = []
        for label, count in enumerate(counts):
            place = folder / "images" / split / f"class {label:04}"
            place.mkdir(parents=True)
            pixels = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
            for i in range(count):
                (place / f"{i:06}.png").write_bytes(encode_image(pixels[i]))
            lines += [f"{place.relative_to(folder / 'images')}/{i:06}.png {label}\n" for i in range(count)]
        (folder / f"{split}.txt").write_text("".join(lines))
    os.sync()  # only what is on disk can be dropped from memory


def write_imbalance(factor: float, path: Path) -> None:
    """The manifest `imbalance`, from the counts alone."""
    counts = class_counts(factor)
    rows = cells(np.ones(CLASSES, int)) | {"count": counts, "share": counts / counts.sum()}
    rows |= {"kind": ["cell"] * CLASSES, "deficit": counts.max() - counts, "shot": ["many"] * CLASSES}
    write_manifest("imbalance", pa.table(rows), path)


def plan_settings(settings: dict) -> dict:
    """Those of rule plan_generation, of an experiment."""
    whole = Config.model_validate(settings).model_dump()
    kept = {key: whole[key] for key in ("seed", "balance", "prompts", "generation")}
    return kept | {"image_size": 64, "color": "rgb", "train_split": "train", "group_columns": []}


class Timed:
    """Context manager: wall and processor seconds, and the process's peak memory so far."""

    def __enter__(self) -> dict:
        self.start, self.figures = (time.perf_counter(), time.process_time()), {}
        return self.figures

    def __exit__(self, *_) -> None:
        self.figures["seconds"] = round(time.perf_counter() - self.start[0], 3)
        self.figures["processor_seconds"] = round(time.process_time() - self.start[1], 3)
        self.figures["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def index(folder: Path, source: str) -> dict:
    """Rule index_dataset, on files whose contents are in no cache (their folders and inodes may be)."""
    for path in (folder / "images").rglob("*.png"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    settings = config(folder)["dataset"]
    if source == "folder":
        settings = {"source": "folder", "path": settings["path"], "image_size": 64}
    with Timed() as figures:
        index_dataset.main(settings, folder / "real.parquet")
    rows = pq.read_metadata(folder / "real.parquet").num_rows
    start = time.perf_counter()
    fingerprint(Dataset.model_validate(settings))  # what every call of snakemake does to see new files
    listing = round(time.perf_counter() - start, 3)
    return {"rows": rows, **figures, "files_per_s": round(rows / figures["seconds"]), "fingerprint_s": listing}


def imbalance(folder: Path) -> dict:
    """Rule measure_imbalance."""
    shots = Config.model_validate(config(folder)).imbalance.model_dump()
    with Timed() as figures:
        measure_imbalance.main(folder / "real.parquet", "train", shots, folder / "imbalance.parquet")
    return {"rows": pq.read_metadata(folder / "real.parquet").num_rows, **figures}


def plan(folder: Path, changed: int | None = None) -> dict:
    """Rule plan_generation; `changed`: class that has one training image more than in the plan that is there."""
    source, out = folder / "imbalance.parquet", folder / ("plan.parquet" if changed is None else "replan.parquet")
    settings = plan_settings(config(folder))
    if changed is not None:
        rows = read_manifest("imbalance", source)
        rows.loc[rows["label"] == changed, "count"] += 1
        source = folder / "changed.parquet"
        write_manifest("imbalance", rows, source)
    with Timed() as figures:
        plan_generation.main(source, None, settings, out)
    figures = {"rows": pq.read_metadata(out).num_rows, **figures, "shards": len(shard_names(out))}
    if changed is not None:
        before = folder / "plan.parquet"
        figures["shards_that_keep_their_name"] = len(shard_names(before) & shard_names(out))
        unmade = f"SELECT count(*) FROM '{out}' ANTI JOIN '{before}' USING (image_id)"
        figures["images_not_made_before"] = duckdb.sql(unmade).fetchall()[0][0]
    return figures


def shard_names(plan: Path) -> set[str]:
    """Names of the shards of a plan of any size."""
    return {name for (name,) in duckdb.sql(f"SELECT DISTINCT shard FROM '{plan}'").fetchall()}


def screen(folder: Path, screening: dict, name: str) -> dict:
    """Rule screen_synthetic, into the manifest `synthetic` called `name`."""
    with Timed() as figures:
        screen_synthetic.main(folder / "scores.parquet", screening, folder / f"{name}.parquet")
    accepted = f"SELECT count(*), avg(accepted::int) FROM '{folder / name}.parquet'"
    [(rows, share)] = duckdb.sql(accepted).fetchall()
    return {"rows": rows, **figures, "rejected_share": round(1 - share, 4)}


def balance(folder: Path, name: str) -> dict:
    """Rule build_balanced_manifest, of the manifest `synthetic` called `name`."""
    paths = [folder / f"{one}.parquet" for one in ("real", name, "imbalance")]
    settings = Config.model_validate(config(folder)).balance.model_dump()
    with Timed() as figures:
        build_balanced_manifest.main(*paths, "train", settings, folder / "balanced.parquet")
    return {"rows": pq.read_metadata(folder / "balanced.parquet").num_rows, **figures}


def quality(folder: Path) -> dict:
    """Rule measure_quality without features, of the manifest `synthetic` called `short` and what was kept of it."""
    paths = [folder / f"{name}.parquet" for name in ("short", "balanced", "imbalance")]
    settings = Config.model_validate(config(folder)).balance.model_dump()
    with Timed() as figures:
        measure_quality.main(*paths, None, settings, folder / "quality.parquet")
    return {"rows": pq.read_metadata(paths[0]).num_rows, **figures}


def prepare(part: str, rows: int, folder: Path) -> None:
    """Make what `part` reads at about `rows` rows, in `folder`."""
    factor = rows / (TABLE if part in ("index", "imbalance") else WANTED)
    if part == "index":
        write_files(factor, folder)
    if part in ("imbalance", "manifest"):
        write_real(factor, folder / "real.parquet")
    if part in ("plan", "manifest"):
        write_imbalance(factor, folder / "imbalance.parquet")
    if part == "manifest":
        write_scores(factor, folder / "scores.parquet")


PARTS = {
    "index": lambda folder: index(folder, "image_list"),
    "index_folder": lambda folder: index(folder, "folder"),
    "imbalance": imbalance,
    "plan": plan,
    # The smallest class and the largest: the one changes its own shard, the other what all classes lack.
    "replan_smallest": lambda folder: plan(folder, CLASSES - 1),
    "replan_largest": lambda folder: plan(folder, 0),
    "screen": lambda folder: screen(folder, SCREENING, "short"),
    "balance_short": lambda folder: balance(folder, "short"),
    "quality": quality,  # directly after `balance_short`
    # Nothing is rejected, and every class gets all that it lacks.
    "screen_none": lambda folder: screen(folder, {"min_contrast": 0}, "synthetic"),
    "balance": lambda folder: balance(folder, "synthetic"),
}


if __name__ == "__main__":
    verb, name, size, place = sys.argv[1:]
    if verb == "prepare":
        prepare(name, int(size), Path(place))
    else:
        print(json.dumps(PARTS[name](Path(place))))
