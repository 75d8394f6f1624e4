"""The tables between rules: schemas, and the only code that reads and writes them."""

from synaug.manifests.tables import SORT_KEYS, read_manifest, read_table, with_group, write_manifest

__all__ = ["SORT_KEYS", "read_manifest", "read_table", "with_group", "write_manifest"]
