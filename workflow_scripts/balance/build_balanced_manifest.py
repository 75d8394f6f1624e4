"""Join all real training images and the best accepted synthetic images into one manifest."""

from synaug.balance import build_balanced_manifest
from synaug.config import Balance
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.logs import job_log
from synaug.screening.features import read_features


def main(
    real: str,
    synthetic: str,
    imbalance: str,
    train_split: str,
    balance: dict,
    balanced: str,
    fill_may_be_empty: bool = False,
    gate: str | None = None,
    features: str | None = None,
) -> None:
    """Join the manifests `real` and `synthetic` into `balanced`; `imbalance` and `gate` say how many are wanted.

    fill_may_be_empty: of `build_balanced_manifest`. features: the manifest of this name, if images are kept by it.
    """
    rows = build_balanced_manifest(
        read_manifest("real", real),
        read_manifest("synthetic", synthetic),
        read_manifest("imbalance", imbalance),
        train_split,
        Balance.model_validate(balance),
        fill_may_be_empty,
        read_manifest("gate", gate) if gate else None,
        read_features(features) if features else None,
    )
    write_manifest("balanced", rows, balanced)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.real,
            snakemake.input.synthetic,
            snakemake.input.imbalance,
            snakemake.params.train_split,
            snakemake.params.balance,
            snakemake.output.balanced,
            snakemake.params.fill_may_be_empty,
            snakemake.input.get("gate"),
            snakemake.input.get("features"),
        )
