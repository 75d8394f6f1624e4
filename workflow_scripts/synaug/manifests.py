"""Every table that flows between two rules: its Arrow schema, and the only code that writes and reads it.

A manifest is Parquet, sorted by a stable key, and byte-stable: the same rows give the same bytes. Writing is atomic.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from synaug.errors import UserError

SCHEMA_VERSION = "1"

# The struct that Hugging Face `datasets` knows as an image: encoded bytes, and a file name.
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
# Strings that repeat over many rows.
REPEATED = pa.dictionary(pa.int32(), pa.string())


def _field(name: str, kind: pa.DataType, about: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"about": about})


_CELL = [
    _field("label", pa.int32(), "class, position in the sorted class names"),
    _field("label_name", REPEATED, "class name"),
]
_LOCATION = [
    _field("path", REPEATED, "file that holds the image", nullable=True),
    _field("row", pa.int64(), "row of the table at `path`; null: the file itself is the image", nullable=True),
    _field("column", REPEATED, "column of that table; null: the file itself is the image", nullable=True),
]
_SIZE = [_field("width", pa.int32(), "pixels", nullable=True), _field("height", pa.int32(), "pixels", nullable=True)]
# Everything that decides the pixels of a synthetic image, and nothing else: image_id is the hash of these.
PIXEL_COLUMNS = [
    _field("pipeline", REPEATED, "kind of pipeline: text-to-image"),
    _field("model", REPEATED, "hub id or folder of the model"),
    _field("model_version", REPEATED, "hub: revision; folder: hash of its contents"),
    _field("scheduler", REPEATED, "diffusers scheduler class; empty: the checkpoint's own"),
    _field("steps", pa.int32(), "denoising steps"),
    _field("guidance", pa.float64(), "classifier-free guidance scale"),
    _field("size", pa.int32(), "side of the image as sampled, pixels"),
    _field("stored_size", pa.int32(), "side of the image as stored, pixels"),
    _field("color", REPEATED, "grey or rgb"),
    _field("dtype", REPEATED, "floating-point type of the model"),
    _field("prompt", REPEATED, "text"),
    _field("negative_prompt", REPEATED, "text; empty: none"),
    _field("seed", pa.int64(), "of the image's own random generator"),
    _field("source_image", pa.string(), "image_id of the real image it starts from; null: noise alone", nullable=True),
    _field("sampler_version", pa.int32(), "raised when the sampling code changes pixels"),
]
_ID = _field("image_id", pa.string(), "real: hash of the file; synthetic: hash of everything that decides the pixels")
_SHA256 = _field("sha256", pa.string(), "of the encoded image")
_SUBSET = _field("subset", REPEATED, "all images; balanced: mean over classes; many, medium, few; class:<name>")

SCHEMAS: dict[str, pa.Schema] = {
    "real": pa.schema(
        [
            _ID,
            _field("split", REPEATED, "train, test, ..."),
            *_CELL,
            *_LOCATION,
            *_SIZE,
            _SHA256,
            _field("usable", pa.bool_(), "whether the image can be decoded"),
            _field("reason", pa.string(), "why not", nullable=True),
        ]
    ),
    "imbalance": pa.schema(
        [
            _field("kind", pa.string(), "cell: one class; summary: the whole data set"),
            _field("label", pa.int32(), "class", nullable=True),
            _field("label_name", REPEATED, "class name", nullable=True),
            _field("count", pa.int64(), "usable real training images"),
            _field("share", pa.float64(), "of all usable real training images"),
            _field("deficit", pa.int64(), "images that it lacks to the largest class"),
            _field("shot", REPEATED, "many, medium or few", nullable=True),
            _field("imbalance_factor", pa.float64(), "largest class / smallest class", nullable=True),
            _field("gini", pa.float64(), "Gini coefficient of the counts, 0 is balanced", nullable=True),
            _field("entropy", pa.float64(), "entropy of the shares / log(classes), 1 is balanced", nullable=True),
            _field("effective_classes", pa.float64(), "exp(entropy): classes of equal size, as uneven", nullable=True),
        ]
    ),
    "plan": pa.schema(
        [
            _ID,
            *_CELL,
            _field("index", pa.int32(), "number within the class"),
            *PIXEL_COLUMNS,
            _field("shard", REPEATED, "the file shards/<shard>.parquet that will hold it"),
            _field("licence", REPEATED, "licence of the model's images"),
        ]
    ),
    "shard": pa.schema(
        [
            pa.field("image", IMAGE, metadata={"about": "the encoded image"}),
            _ID,
            _field("label_name", REPEATED, "class name; its number depends on the experiment"),
            _SHA256,
            *_SIZE,
            *PIXEL_COLUMNS,
            _field("licence", REPEATED, "licence of the model's images"),
            _field("batch_size", pa.int32(), "images sampled together"),
            _field("device", REPEATED, "name of the device that sampled"),
            _field("threads", pa.int32(), "CPU threads of the sampler"),
            _field("libraries", REPEATED, "versions of torch, diffusers and transformers"),
        ]
    ),
    "synthetic": pa.schema(
        [
            _ID,
            *_CELL,
            *_LOCATION,
            *_SIZE,
            _SHA256,
            _field("contrast", pa.float64(), "standard deviation of the pixels, 0 to 255", nullable=True),
            _field("accepted", pa.bool_(), "whether it is trained on"),
            _field("reason", pa.string(), "why not", nullable=True),
        ]
    ),
    "balanced": pa.schema(
        [
            _ID,
            *_CELL,
            _field("source", REPEATED, "real or synthetic"),
            _field("weight", pa.float64(), "of the image in the loss"),
            _SHA256,
            *_LOCATION,
        ]
    ),
    "history": pa.schema(
        [
            _field("step", pa.int32(), "optimiser steps done"),
            _field("epoch", pa.float64(), "passes over the training images"),
            _field("loss", pa.float64(), "mean training loss since the row before, nats"),
            _field("learning_rate", pa.float64(), "of the optimiser at this step"),
        ]
    ),
    "predictions": pa.schema(
        [
            _ID,
            *_CELL,
            _field("predicted", pa.int32(), "class of the highest probability"),
            _field("probabilities", pa.list_(pa.float32()), "of all classes, in their order"),
        ]
    ),
    "metrics": pa.schema(
        [
            _field("recipe", REPEATED, "recipe of the config"),
            _field("stage", REPEATED, "train: whole network; finetune: last layer re-trained"),
            _field("seed", pa.int64(), "training seed"),
            _field("metric", REPEATED, "accuracy: share of right answers over the images of the subset"),
            _SUBSET,
            _field("value", pa.float64(), "0 to 1"),
        ]
    ),
    "summary": pa.schema(
        [
            _field("recipe", REPEATED, "recipe of the config"),
            _field("stage", REPEATED, "train or finetune"),
            _field("metric", REPEATED, "accuracy"),
            _SUBSET,
            _field("mean", pa.float64(), "over seeds"),
            _field(
                "low", pa.float64(), "lower end of the 95 % interval (Student t); null with one seed", nullable=True
            ),
            _field("high", pa.float64(), "upper end of the 95 % interval", nullable=True),
            _field("seeds", pa.int32(), "number of seeds"),
        ]
    ),
}

SORT_KEYS = {
    "real": ["split", "label", "image_id"],
    "imbalance": ["kind", "label"],
    "plan": ["label", "index"],
    "shard": ["label_name", "image_id"],
    "synthetic": ["label", "image_id"],
    "balanced": ["label", "source", "image_id"],
    "history": ["step"],
    "predictions": ["label", "image_id"],
    "metrics": ["recipe", "stage", "seed", "metric", "subset"],
    "summary": ["recipe", "stage", "metric", "subset"],
}


def write_manifest(kind: str, rows: pd.DataFrame | pa.Table, path: str | os.PathLike) -> None:
    """Write `rows` as manifest `kind` (a key of SCHEMAS) to `path`: sorted, byte-stable, atomic.

    Columns that the schema does not have raise ValueError; columns that `rows` lacks are filled with null, and a null
    in a column that may not have one raises ValueError.
    """
    schema = SCHEMAS[kind]
    if isinstance(rows, pd.DataFrame):
        rows = pa.Table.from_pandas(rows, preserve_index=False)
    extra = set(rows.column_names) - set(schema.names)
    if extra:
        raise ValueError(f"manifest {kind!r} has no column {', '.join(sorted(extra))}")
    columns = []
    for field in schema:
        if field.name in rows.column_names:
            plain = pa.string() if pa.types.is_dictionary(field.type) else field.type
            column = pa.chunked_array([], plain) if not rows.num_rows else rows.column(field.name).cast(plain)
        else:
            column = pa.chunked_array([pa.nulls(rows.num_rows, field.type)])
        if column.null_count and not field.nullable:
            raise ValueError(f"manifest {kind!r}: {column.null_count} rows have no {field.name}")
        columns.append(column)
    # Dictionaries are made after sorting: they hold their values in the order in which they come.
    table = pa.Table.from_arrays(columns, names=schema.names)
    table = table.take(_sort_order(table, SORT_KEYS[kind])).combine_chunks().cast(schema)
    metadata = {"synaug:manifest": kind, "synaug:schema_version": SCHEMA_VERSION}
    if kind == "shard":
        # So that `datasets` and the Hub viewer show the column as images.
        metadata["huggingface"] = json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})
    # Encoded images do not compress, and PLAIN keeps them readable without a dictionary page.
    plain = {name: ("NONE" if name == "image.bytes" else "ZSTD") for name in _leaves(table.schema)}
    dictionary = [f.name for f in schema if pa.types.is_dictionary(f.type)]
    with atomic_path(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata(metadata),
            temporary,
            compression=plain,
            use_dictionary=dictionary or False,
            row_group_size=1000 if kind == "shard" else 131072,
            store_schema=True,
        )


def read_manifest(
    kind: str, path: str | os.PathLike, columns: Sequence[str] | None = None, filters=None
) -> pd.DataFrame:
    """Read manifest `kind` at `path` as a data frame; `columns` and `filters` as in pyarrow.parquet.read_table.

    Raises UserError if the file is not there, is no Parquet, or lacks a column of the schema.
    """
    return read_table(kind, path, columns, filters).to_pandas(strings_to_categorical=False).pipe(_plain_strings)


def read_table(kind: str, path: str | os.PathLike, columns: Sequence[str] | None = None, filters=None) -> pa.Table:
    """As read_manifest, but an Arrow table (for image bytes, which a data frame would copy)."""
    path = Path(path)
    try:
        names = pq.read_schema(path).names
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the workflow to make it") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: is not a readable Parquet file ({error}); delete it and run again") from None
    missing = [name for name in (columns or SCHEMAS[kind].names) if name not in names]
    if missing:
        raise UserError(f"{path}: has no column {', '.join(missing)}; delete it and run again")
    try:
        return pq.read_table(path, columns=list(columns or SCHEMAS[kind].names), filters=filters, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: is damaged ({error}); delete it and run again") from None


class atomic_path:
    """Context manager: a temporary path beside `path` that becomes `path` (fsync, rename) if the block succeeds."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.temporary

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            with self.temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(self.temporary, self.path)
        else:
            self.temporary.unlink(missing_ok=True)


def file_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_hash(*parts: Iterable) -> str:
    """SHA-256 (hexadecimal) of values that JSON can write; another order, type or number gives another hash."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def _plain_strings(frame: pd.DataFrame) -> pd.DataFrame:
    """Dictionary columns as plain strings: a categorical's group-by and merge surprise."""
    repeated = [name for name, kind in frame.dtypes.items() if isinstance(kind, pd.CategoricalDtype)]
    return frame.astype(dict.fromkeys(repeated, "str"))


def _sort_order(table: pa.Table, keys: list[str]) -> pa.Array:
    plain = {}
    for key in keys:
        column = table.column(key)
        plain[key] = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
    return pc.sort_indices(pa.table(plain), sort_keys=[(key, "ascending") for key in keys])


def _leaves(schema: pa.Schema) -> list[str]:
    """Names of the Parquet columns: an image struct is two of them."""
    names = []
    for field in schema:
        if pa.types.is_struct(field.type):
            names += [f"{field.name}.{child.name}" for child in field.type]
        elif pa.types.is_list(field.type):
            names.append(f"{field.name}.list.element")
        else:
            names.append(field.name)
    return names
