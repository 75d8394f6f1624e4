"""Manifests, the tables between rules: their columns (`schemas`), reading and writing them (`tables`)."""

from synaug.manifests.tables import (
    SORT_KEYS,
    class_names,
    count_rows,
    read_manifest,
    read_table,
    read_with_local_paths,
    row_count,
    runs,
    stored_columns,
    stream_table,
    to_frame,
    with_fill,
    with_group,
    write_manifest,
    write_shard,
    write_sorted,
)

__all__ = [
    "SORT_KEYS",
    "class_names",
    "count_rows",
    "read_manifest",
    "read_table",
    "read_with_local_paths",
    "row_count",
    "runs",
    "stored_columns",
    "stream_table",
    "to_frame",
    "with_fill",
    "with_group",
    "write_manifest",
    "write_shard",
    "write_sorted",
]
