"""Make a table of images from files that a manifest cannot point into: those of a known data set, tars, Arrow."""

from pathlib import Path

import pyarrow.parquet as pq

from synaug.config import Dataset
from synaug.datasets import PACKED, convert, input_files, write_table
from synaug.runtime.disk import space_for
from synaug.runtime.files import atomic_path
from synaug.runtime.logs import job_log
from synaug.runtime.paths import place_of, root_of


def main(dataset: dict, images: str) -> None:
    """Convert `dataset` (block of the config) to the table `images`."""
    block = Dataset.model_validate(dataset | {"path": place_of(dataset["path"], root_of(images))})
    if block.source in PACKED:
        size = sum(Path(file).stat().st_size for file in input_files(block))
        with space_for(images, size), atomic_path(images) as temporary:
            count = write_table(block, temporary)
    else:
        table = convert(block)
        count = table.num_rows
        with space_for(images, table.nbytes), atomic_path(images) as temporary:
            # PNG does not compress further.
            pq.write_table(table, temporary, use_dictionary=["label_name", "split"], compression="NONE")
    print(f"{images}: {count} images")


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.params.dataset, snakemake.output.images)
