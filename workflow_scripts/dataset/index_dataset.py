"""List every real image of the splits that are used, with its class, or the reason why it is not usable; and faults."""

from synaug.config import Dataset
from synaug.datasets import index_dataset
from synaug.manifests import write_manifest
from synaug.runtime.logs import job_log
from synaug.runtime.paths import local_path, logical_path, results_root


def main(dataset: dict, real: str, threads: int = 1) -> None:
    """Index `dataset` (block of the config) into the manifest `real`. threads: of the search for faults."""
    root = results_root(real)
    path = local_path(dataset["path"], root)
    settings = Dataset.model_validate(dataset | {"path": path})
    rows = index_dataset(settings)
    if settings.faults.find:
        from synaug.datasets.fault_search import find_faults  # torch takes seconds to import
        from synaug.datasets.faults import drop_faults

        rows = drop_faults(find_faults(rows, settings, threads), settings)
    if path != dataset["path"]:
        rows["path"] = rows["path"].map(lambda image: logical_path(image, root))
    write_manifest("real", rows, real)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.params.dataset, snakemake.output.real, snakemake.threads)
