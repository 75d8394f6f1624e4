"""An experiment whose shards are finished, made once, and functions that change its files."""

import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synaug.generation.shards import generate_shard
from synaug.manifests import read_table, write_manifest
from synaug.manifests.schemas import SCHEMAS
from synaug.plan.shards import shard_name

EMPTY_VALUES = {"bool": True, "string": "", "dictionary": "", "int32": 0, "int64": 0, "double": 0.0, "float": 0.0}


def with_required_columns(manifest: str, rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with an empty value in each missing column that must not be null."""
    missing = [field for field in SCHEMAS[manifest] if not field.nullable and field.name not in rows]
    types = {field.name: "dictionary" if pa.types.is_dictionary(field.type) else str(field.type) for field in missing}
    return rows.assign(**{name: EMPTY_VALUES[type_] for name, type_ in types.items()})


def write_image_manifest(manifest: str, home: Path, **columns) -> None:
    """Write the manifest `synthetic` or `balanced`, with a row for every image in the shards of `home`."""
    rows = []
    for file in shards(home):
        shard = read_table("shard", file, ["image_id", "sha256", "label_name"]).to_pandas()
        rows.append(shard.assign(path=f"results/{home.name}/shards/{file.name}", row=range(len(shard)), column="image"))
    cells = read_table("plan", home / "plan.parquet", ["image_id", "label", "group", "index"]).to_pandas()
    rows = pd.concat(rows).merge(cells.astype({"group": "str"}), on="image_id").assign(**columns)
    rows = rows[[name for name in SCHEMAS[manifest].names if name in rows]]
    write_manifest(manifest, with_required_columns(manifest, rows), home / f"{manifest}.parquet")


def make(plan: pd.DataFrame, home: Path) -> None:
    """Generate the images of `plan` in two shards, and write the manifests that name them."""
    halves = [plan.iloc[:6], plan.iloc[6:]]
    halves = [half.assign(shard=shard_name(half["image_id"].tolist())) for half in halves]
    write_manifest("plan", pd.concat(halves), home / "plan.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNAUG_DEVICES", "cpu")
        for number, half in enumerate(halves):
            out = home / f"shards/{half['shard'].iloc[0]}.parquet"
            generate_shard(half, 4, out, home / f"work/{number}", [], 1)
    write_image_manifest("synthetic", home)
    write_image_manifest("balanced", home, source="synthetic")
    shutil.rmtree(home / "work", ignore_errors=True)


def shards(home: Path) -> list[Path]:
    return sorted(home.glob("shards/*.parquet"))


def image_ids(shard: Path) -> list[str]:
    return read_table("shard", shard, ["image_id"]).column(0).to_pylist()


def change_row(shard: Path, row: int, **values) -> None:
    """Write the shard again, with other values in one row."""
    rows = read_table("shard", shard).to_pylist()
    rows[row] |= values
    write_manifest("shard", pa.Table.from_pylist(rows, schema=SCHEMAS["shard"]), shard)


def damage_image(shard: Path, row: int) -> str:
    """Flip one byte in the middle of an encoded image, in place, and return its id."""
    table = read_table("shard", shard, ["image", "image_id"])
    image = table.column("image")[row].as_py()["bytes"]
    flipped = bytearray(image)
    flipped[len(image) // 2] ^= 0xFF
    # Every occurrence: the statistics of the page repeat the smallest and the largest value.
    shard.write_bytes(shard.read_bytes().replace(image, bytes(flipped)))
    return table.column("image_id")[row].as_py()


def damage_rows(shard: Path, column: str = "image") -> None:
    """Overwrite the header of the page that holds `column` of the first row group, in place."""
    group = pq.read_metadata(shard).row_group(0)
    start = next(
        group.column(number).data_page_offset
        for number in range(group.num_columns)
        if group.column(number).path_in_schema.startswith(column)
    )
    data = bytearray(shard.read_bytes())
    data[start : start + 20] = b"\xff" * 20
    shard.write_bytes(data)
