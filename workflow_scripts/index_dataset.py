"""List every real image of the training and the test split: its class, or the reason why it is of no use."""

from synaug.config import Dataset
from synaug.datasets import index_dataset
from synaug.errors import job_log
from synaug.manifests import write_manifest


def main(dataset: dict, real: str) -> None:
    """Index `dataset` (block of the config) into the manifest `real`."""
    write_manifest("real", index_dataset(Dataset.model_validate(dataset)), real)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.params.dataset, snakemake.output.real)
