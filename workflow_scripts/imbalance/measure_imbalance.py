"""Count the classes, and say how uneven they are."""

from synaug.config import Imbalance
from synaug.imbalance import measure_imbalance
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.logs import job_log


def main(real: str, train_split: str, shots: dict, imbalance: str) -> None:
    """Measure the manifest `real` into the manifest `imbalance`."""
    rows = read_manifest("real", real, ["split", "label", "label_name", "group", "attributes", "usable"])
    write_manifest("imbalance", measure_imbalance(rows, train_split, Imbalance.model_validate(shots)), imbalance)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.input.real, snakemake.params.train_split, snakemake.params.shots, snakemake.output.imbalance)
