"""Real images: from a folder tree, a table, lists of files or a known data set to `real.parquet`."""

from synaug.datasets.conversion import FORMATS as PACKED
from synaug.datasets.conversion import write_table
from synaug.datasets.index import fingerprint, index_dataset, input_files
from synaug.datasets.published import FORMATS as PUBLISHED
from synaug.datasets.published import as_table, convert

__all__ = ["PACKED", "PUBLISHED", "as_table", "convert", "fingerprint", "index_dataset", "input_files", "write_table"]
