"""Real images: from a folder, a table, lists of files or a known data set to the rows of the manifest `real`."""

from synaug.datasets.conversion import PACKED, write_table
from synaug.datasets.index import ANY_SIZE, fingerprint, index_dataset, index_parts, input_files
from synaug.datasets.published import PUBLISHED, as_table, convert

__all__ = [
    "ANY_SIZE",
    "PACKED",
    "PUBLISHED",
    "as_table",
    "convert",
    "fingerprint",
    "index_dataset",
    "index_parts",
    "input_files",
    "write_table",
]
