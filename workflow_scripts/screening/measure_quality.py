"""Measure how good the synthetic images are that were kept, per class and over all."""

from synaug.config import Balance
from synaug.manifests import read_manifest, stream_table, to_frame, write_manifest
from synaug.runtime.logs import job_log
from synaug.screening.features import read_features
from synaug.screening.quality import measure_quality


def main(
    synthetic: str,
    balanced: str,
    imbalance: str,
    features: str | None,
    balance: dict,
    quality: str,
    gate: str | None = None,
) -> None:
    """Compare what the manifest `balanced` holds of `synthetic` with its real images, into the manifest `quality`."""
    rows = measure_quality(
        lambda columns: map(to_frame, stream_table("synthetic", synthetic, columns)),
        lambda columns: map(to_frame, stream_table("balanced", balanced, columns)),
        read_manifest("imbalance", imbalance),
        Balance.model_validate(balance),
        read_features(features) if features else None,
        read_manifest("gate", gate) if gate else None,
    )
    write_manifest("quality", rows, quality)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.synthetic,
            snakemake.input.balanced,
            snakemake.input.imbalance,
            snakemake.input.get("features"),
            snakemake.params.balance,
            snakemake.output.quality,
            snakemake.input.get("gate"),
        )
