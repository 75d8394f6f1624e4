"""The forms in which a set of images is written for others: folders, CSV, Hugging Face, WebDataset.

A layout gets one image after the other and keeps none of them. Each is a context manager; its files are whole when it
has ended.
"""

import csv
import io
import json
import re
import tarfile
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from synaug.manifests.schemas import IMAGE

# What stands beside every image, and how Arrow and the card name its type.
FIELDS = {
    "label": pa.int64(), "label_name": pa.string(), "group": pa.string(), "source": pa.string(),
    "weight": pa.float64(), "image_id": pa.string(), "sha256": pa.string(), "licence": pa.string(),
    "pipeline": pa.string(), "model": pa.string(), "model_version": pa.string(), "adapters": pa.string(),
    "scheduler": pa.string(), "steps": pa.int32(), "guidance": pa.float64(), "strength": pa.float64(),
    "prompt": pa.string(), "negative_prompt": pa.string(), "seed": pa.int64(), "source_image": pa.string(),
}  # fmt: skip
# Of synthetic images, from their shards; null for real ones, whose licence is that of their data set.
PROVENANCE = list(FIELDS)[list(FIELDS).index("licence") :]

PER_FILE = 10_000  # images in a tar or a Parquet file: 1 GB of photographs
_ROW_GROUP = 100  # images; what a reader of one row has to load


class Files:
    """Image files, and a CSV that has a row for each of them: `imagefolder` (a folder per class) and `csv`."""

    def __init__(self, out: Path, classes: list[str], by_class: bool):
        self.out, self.by_class = (out / "train" if by_class else out), by_class
        self.table = "metadata.csv" if by_class else "images.csv"
        self.folders = folder_names(classes)

    def __enter__(self) -> "Files":
        self.out.mkdir(exist_ok=True)
        self.file = (self.out / self.table).open("w", newline="", encoding="utf-8")
        self.writer = csv.DictWriter(self.file, ["file_name", *FIELDS])
        self.writer.writeheader()
        return self

    def __exit__(self, *error) -> None:
        self.file.close()

    def add(self, name: str, data: bytes, ending: str, fields: dict) -> None:
        """Write one image. name: another one for every image, a hexadecimal hash to begin with."""
        # A million files in one folder are too many for many a file system.
        folder = self.folders[fields["label"]] if self.by_class else f"images/{name[:2]}"
        (self.out / folder).mkdir(parents=True, exist_ok=True)
        file_name = f"{folder}/{name}.{ending}"
        (self.out / file_name).write_bytes(data)
        self.writer.writerow({"file_name": file_name} | fields)


class Parquet:
    """Parquet as the library `datasets` writes it: the column `image` is shown as images, `label` has names."""

    def __init__(self, out: Path, classes: list[str], count: int):
        self.folder, self.parts = out / "data", max(1, -(-count // PER_FILE))
        features = {"image": {"_type": "Image"}} | {name: features_of(kind) for name, kind in FIELDS.items()}
        features["label"] = {"names": classes, "_type": "ClassLabel"}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        self.schema = pa.schema([("image", IMAGE), *FIELDS.items()], metadata=metadata)
        self.part, self.rows, self.writer = -1, [], None

    def __enter__(self) -> "Parquet":
        self.folder.mkdir()
        self._next_part()
        return self

    def __exit__(self, *error) -> None:
        if error[0] is None:
            self._flush()
        self.writer.close()

    def add(self, name: str, data: bytes, ending: str, fields: dict) -> None:
        """Write one image."""
        self.rows.append({"image": {"bytes": data, "path": f"{name}.{ending}"}} | fields)
        if len(self.rows) == _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self.rows:
            if self.in_part >= PER_FILE:
                self.writer.close()
                self._next_part()
            self.writer.write_table(pa.Table.from_pylist(self.rows, self.schema))
            self.in_part += len(self.rows)
            self.rows = []

    def _next_part(self) -> None:
        self.part, self.in_part = self.part + 1, 0
        path = self.folder / f"train-{self.part:05d}-of-{self.parts:05d}.parquet"
        # Encoded images do not compress.
        compression = {name: "ZSTD" for name in FIELDS} | {"image.bytes": "NONE", "image.path": "ZSTD"}
        dictionary = [name for name, kind in FIELDS.items() if kind == pa.string()]
        self.writer = pq.ParquetWriter(path, self.schema, compression=compression, use_dictionary=dictionary)


class Tars:
    """WebDataset: tar files of images (<key>.png), classes (<key>.cls) and what is known of them (<key>.json).

    An image goes to the tar that its hash chooses, so that each tar is a random part of the set: readers take tars in
    any order but read each from its beginning.
    """

    def __init__(self, out: Path, count: int):
        self.out, self.count, self.number = out, max(1, -(-count // PER_FILE)), 0

    def __enter__(self) -> "Tars":
        self.stack = ExitStack()
        self.tars = []
        for i in range(self.count):
            tar = tarfile.open(self.out / f"train-{i:05d}.tar", "w", tarfile.USTAR_FORMAT)
            self.tars.append(self.stack.enter_context(tar))
        return self

    def __exit__(self, *error) -> None:
        self.stack.close()

    def add(self, name: str, data: bytes, ending: str, fields: dict) -> None:
        """Write one image. name: as for `Files`."""
        tar = self.tars[int(name[:8], 16) % self.count]
        text = json.dumps({key: value for key, value in fields.items() if value is not None}, ensure_ascii=False)
        for kind, content in ((ending, data), ("cls", str(fields["label"]).encode()), ("json", text.encode())):
            # No time, user or right of this machine: the same set makes the same tars.
            entry = tarfile.TarInfo(f"{name}.{kind}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
            # Its list of what it holds would grow with the set.
            tar.members.clear()


def features_of(kind: pa.DataType) -> dict:
    """The type of a column as `datasets` names it."""
    return {"dtype": "float64" if kind == pa.float64() else str(kind), "_type": "Value"}


def folder_names(classes: list[str]) -> list[str]:
    """A folder for each class: its name, without what no file system takes, and different in more than case."""
    names, seen = [], set()
    for name in classes:
        plain = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name).strip(" .")[:100] or "_"
        number, tried = 1, plain
        while tried.casefold() in seen:
            number += 1
            tried = f"{plain}_{number}"
        seen.add(tried.casefold())
        names.append(tried)
    return names
