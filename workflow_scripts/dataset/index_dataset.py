"""List every real image of the splits that are used, with its class, or the reason why it is not usable."""

from synaug.config import Dataset
from synaug.datasets import index_dataset
from synaug.manifests import write_manifest
from synaug.runtime.logs import job_log
from synaug.runtime.paths import local_path, logical_path, results_root


def main(dataset: dict, real: str) -> None:
    """Index `dataset` (block of the config) into the manifest `real`."""
    root = results_root(real)
    path = local_path(dataset["path"], root)
    rows = index_dataset(Dataset.model_validate(dataset | {"path": path}))
    if path != dataset["path"]:
        rows["path"] = rows["path"].map(lambda image: logical_path(image, root))
    write_manifest("real", rows, real)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.params.dataset, snakemake.output.real)
