"""Writers for the layouts of an exported set: image folders, CSV, Hugging Face (Parquet), WebDataset (tars).

A writer is a context manager. It takes one image at a time and keeps at most a hundred in memory. Its files are
complete when the context ends.
"""

import csv
import io
import json
import re
import resource
import tarfile
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from synaug.manifests.schemas import IMAGE
from synaug.runtime.shown_text import csv_cell

# The columns that accompany every image, with their Arrow type.
FIELDS = {
    "label": pa.int64(), "label_name": pa.string(), "group": pa.string(), "source": pa.string(), "fill": pa.string(),
    "weight": pa.float64(), "image_id": pa.string(), "sha256": pa.string(), "licence": pa.string(),
    "pipeline": pa.string(), "model": pa.string(), "model_version": pa.string(), "adapters": pa.string(),
    "scheduler": pa.string(), "steps": pa.int32(), "guidance": pa.float64(), "strength": pa.float64(),
    "prompt": pa.string(), "negative_prompt": pa.string(), "seed": pa.int64(), "source_image": pa.string(),
}  # fmt: skip
# The columns of synthetic images that their shards hold; null for real images, whose licence is that of their data set.
PROVENANCE = list(FIELDS)[list(FIELDS).index("licence") :]

PER_FILE = 10_000  # images in a tar or a Parquet file: 1 GB of photographs
# Of a row group; to read one row, a reader loads a whole row group.
_ROW_GROUP = 100  # images
_ROW_GROUP_BYTES = 1 << 28


class ImageFiles:
    """Image files and a CSV with a row for each. by_class: in a folder per class below train/ (`imagefolder`)."""

    def __init__(self, out: Path, classes: list[str], by_class: bool):
        self.out, self.by_class = (out / "train" if by_class else out), by_class
        self.table = "metadata.csv" if by_class else "images.csv"
        self.folders = folder_names(classes)

    def __enter__(self) -> "ImageFiles":
        self.out.mkdir(exist_ok=True)
        self.file = (self.out / self.table).open("w", newline="", encoding="utf-8")
        self.writer = csv.DictWriter(self.file, ["file_name", *FIELDS])
        self.writer.writeheader()
        return self

    def __exit__(self, *error) -> None:
        self.file.close()

    def add(self, name: str, data: bytes, extension: str, fields: dict) -> None:
        """Write one image. name: unique, and begins with a hexadecimal hash."""
        # Many file systems cannot handle a million files in one folder.
        folder = self.folders[fields["label"]] if self.by_class else f"images/{name[:2]}"
        (self.out / folder).mkdir(parents=True, exist_ok=True)
        file_name = f"{folder}/{name}.{extension}"
        (self.out / file_name).write_bytes(data)
        cells = {key: csv_cell(value) for key, value in fields.items()}
        self.writer.writerow({"file_name": file_name} | cells)


class ParquetFiles:
    """Parquet files as the library `datasets` writes them: `image` is an image column, `label` has class names."""

    def __init__(self, out: Path, classes: list[str], count: int):
        self.folder, self.parts = out / "data", max(1, -(-count // PER_FILE))
        features = {"image": {"_type": "Image"}} | {name: _feature(type_) for name, type_ in FIELDS.items()}
        features["label"] = {"names": classes, "_type": "ClassLabel"}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        self.schema = pa.schema([("image", IMAGE), *FIELDS.items()], metadata=metadata)
        self.part, self.rows, self.bytes, self.writer = -1, [], 0, None

    def __enter__(self) -> "ParquetFiles":
        self.folder.mkdir()
        self._next_part()
        return self

    def __exit__(self, *error) -> None:
        if error[0] is None:
            self._flush()
        self.writer.close()

    def add(self, name: str, data: bytes, extension: str, fields: dict) -> None:
        """Write one image. name: unique."""
        self.rows.append({"image": {"bytes": data, "path": f"{name}.{extension}"}} | fields)
        self.bytes += len(data)
        if len(self.rows) == _ROW_GROUP or self.bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self.rows:
            if self.in_part >= PER_FILE:
                self.writer.close()
                self._next_part()
            self.writer.write_table(pa.Table.from_pylist(self.rows, self.schema))
            self.in_part += len(self.rows)
            self.rows, self.bytes = [], 0

    def _next_part(self) -> None:
        self.part, self.in_part = self.part + 1, 0
        path = self.folder / f"train-{self.part:05d}-of-{self.parts:05d}.parquet"
        # Encoded images do not compress.
        compression = {name: "ZSTD" for name in FIELDS} | {"image.bytes": "NONE", "image.path": "ZSTD"}
        dictionary = [name for name, type_ in FIELDS.items() if type_ == pa.string()]
        self.writer = pq.ParquetWriter(path, self.schema, compression=compression, use_dictionary=dictionary)


class TarFiles:
    """WebDataset: tar files with, for each image, the image (<key>.png), its class (<key>.cls) and a <key>.json.

    The hash of an image decides in which tar it lies, so that each tar is a random part of the set: readers take tars
    in any order, but read each from its beginning.
    """

    def __init__(self, out: Path, count: int):
        self.out, self.count = out, max(1, -(-count // PER_FILE))

    def __enter__(self) -> "TarFiles":
        # Millions of images need more files than a process may open, unless it asks: on macOS 256, mostly 1,024.
        limit, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self.count + 100
        if limit != resource.RLIM_INFINITY and limit < wanted:
            wanted = wanted if highest == resource.RLIM_INFINITY else min(wanted, highest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, highest))
        self.stack = ExitStack()
        self.tars = []
        for i in range(self.count):
            tar = tarfile.open(self.out / f"train-{i:05d}.tar", "w", tarfile.USTAR_FORMAT)
            self.tars.append(self.stack.enter_context(tar))
        return self

    def __exit__(self, *error) -> None:
        self.stack.close()

    def add(self, name: str, data: bytes, extension: str, fields: dict) -> None:
        """Write one image. name: unique, and begins with a hexadecimal hash."""
        tar = self.tars[int(name[:8], 16) % self.count]
        text = json.dumps({key: value for key, value in fields.items() if value is not None}, ensure_ascii=False)
        contents = {extension: data, "cls": str(fields["label"]).encode(), "json": text.encode()}
        for file_extension, content in contents.items():
            # Without time, user or permissions of this machine: the same set gives the same tars.
            entry = tarfile.TarInfo(f"{name}.{file_extension}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
            tar.members.clear()  # the list of its entries would grow with the set


def _feature(type_: pa.DataType) -> dict:
    """The description of a column's type in the library `datasets`."""
    return {"dtype": "float64" if type_ == pa.float64() else str(type_), "_type": "Value"}


def folder_names(classes: list[str]) -> list[str]:
    """A folder name for each class: valid on every file system, unique even if case is ignored, and no formula.

    File systems limit a name to 255 bytes. A letter that is not Latin takes up to four.
    """
    names, used = [], set()
    for class_name in classes:
        plain = re.sub(r'^[=+\-@]|[<>:"/\\|?*\x00-\x1f]', "_", class_name.strip(" ."))
        plain = plain.encode()[:100].decode(errors="ignore").rstrip(" .") or "_"
        number, name = 1, plain
        while name.casefold() in used:
            number += 1
            name = f"{plain}_{number}"
        used.add(name.casefold())
        names.append(name)
    return names
