"""Real images: from a folder tree or a table to `real.parquet`."""

from synaug.datasets.index import fingerprint, index_dataset, input_files

__all__ = ["fingerprint", "index_dataset", "input_files"]
