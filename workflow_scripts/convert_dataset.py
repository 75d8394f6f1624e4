"""Make a table of images from the files in which a known data set was published."""

import pyarrow.parquet as pq

from synaug.config import Dataset
from synaug.datasets import convert
from synaug.disk import space_for
from synaug.errors import job_log
from synaug.manifests import atomic_path
from synaug.places import place_of, root_of


def main(dataset: dict, images: str) -> None:
    """Convert `dataset` (block of the config) to the table `images`."""
    table = convert(Dataset.model_validate(dataset | {"path": place_of(dataset["path"], root_of(images))}))
    with space_for(images, table.nbytes), atomic_path(images) as temporary:
        # PNG does not compress further.
        pq.write_table(table, temporary, use_dictionary=["label_name", "split"], compression="NONE")
    print(f"{images}: {table.num_rows} images")


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.params.dataset, snakemake.output.images)
