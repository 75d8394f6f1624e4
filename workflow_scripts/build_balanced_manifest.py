"""Put the real training images and the accepted synthetic ones into one manifest."""

from synaug.balance import build_balanced_manifest
from synaug.errors import job_log
from synaug.manifests import read_manifest, write_manifest


def main(real: str, synthetic: str, train_split: str, balanced: str) -> None:
    """Join the manifests `real` and `synthetic` into the manifest `balanced`."""
    rows = build_balanced_manifest(read_manifest("real", real), read_manifest("synthetic", synthetic), train_split)
    write_manifest("balanced", rows, balanced)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.input.real, snakemake.input.synthetic, snakemake.params.train_split, snakemake.output.balanced)
