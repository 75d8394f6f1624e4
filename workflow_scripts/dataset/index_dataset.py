"""List every real image of the training and the test split: its class, or the reason why it is of no use."""

from synaug.config import Dataset
from synaug.datasets import index_dataset
from synaug.manifests import write_manifest
from synaug.runtime.logs import job_log
from synaug.runtime.paths import name_of, place_of, root_of


def main(dataset: dict, real: str) -> None:
    """Index `dataset` (block of the config) into the manifest `real`."""
    root = root_of(real)
    place = place_of(dataset["path"], root)
    rows = index_dataset(Dataset.model_validate(dataset | {"path": place}))
    if place != dataset["path"]:
        rows["path"] = rows["path"].map(lambda path: name_of(path, root))
    write_manifest("real", rows, real)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.params.dataset, snakemake.output.real)
