"""Convert a packed data set (authors' files, tars, Arrow files, torchvision) to one table of images."""

from pathlib import Path

import pyarrow.parquet as pq

from synaug.config import Dataset
from synaug.datasets import ANY_SIZE, PACKED, convert, input_files, write_table
from synaug.runtime.files import atomic_path
from synaug.runtime.logs import job_log
from synaug.runtime.paths import local_path, results_root


def main(dataset: dict, images: str, origin: str = "") -> None:
    """Convert `dataset` (block of the config) to the table `images`. origin: see `write_table`."""
    path = local_path(dataset["path"], results_root(images))
    block = Dataset.model_validate(dataset | {"path": path, "image_size": ANY_SIZE})
    if block.source in PACKED:
        size = sum(Path(file).stat().st_size for file in input_files(block))
        with atomic_path(images, size) as temporary:
            count = write_table(block, temporary, origin)
    else:
        table = convert(block)
        count = table.num_rows
        with atomic_path(images, table.nbytes) as temporary:
            # PNG does not compress further.
            pq.write_table(table, temporary, use_dictionary=["label_name", "split"], compression="NONE")
    print(f"{images}: {count} images")


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.params.dataset, snakemake.output.images, snakemake.params.origin)
