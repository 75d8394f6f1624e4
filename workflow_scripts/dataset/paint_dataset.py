"""Paint grey images in colours that go with the class in training and not in the test."""

import pyarrow.parquet as pq

from synaug.config import Dataset
from synaug.datasets.colored import paint
from synaug.runtime.files import atomic_path
from synaug.runtime.logs import job_log
from synaug.runtime.paths import place_of, root_of


def main(dataset: dict, images: str) -> None:
    """Write the images of `dataset` (a config block whose source is a table), painted, as the table `images`."""
    dataset = Dataset.model_validate(dataset | {"path": place_of(dataset["path"], root_of(images))})
    with atomic_path(images) as temporary:
        pq.write_table(paint(dataset), temporary, compression="NONE")


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.params.dataset, snakemake.output.images)
