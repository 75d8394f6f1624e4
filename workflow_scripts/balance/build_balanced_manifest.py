"""Join all real training images and the best accepted synthetic images into one manifest."""

from synaug.balance import balanced_rows, kept_images
from synaug.config import Balance
from synaug.manifests import count_rows, read_manifest, stream_table, to_frame, write_sorted
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

    fill_may_be_empty: of `kept_images`. features: the manifest of this name, if images are kept by it.
    """
    is_kept = kept_images(
        lambda columns: map(to_frame, stream_table("synthetic", synthetic, columns)),
        read_manifest("imbalance", imbalance),
        Balance.model_validate(balance),
        fill_may_be_empty,
        read_manifest("gate", gate) if gate else None,
        read_features(features) if features else None,
    )
    splits = count_rows("real", real, ["split", "usable"])
    train = splits.loc[(splits["split"] == train_split) & splits["usable"], "rows"].sum()
    rows = balanced_rows(real, synthetic, train_split, is_kept)
    write_sorted("balanced", rows, int(train + is_kept.sum()), balanced)


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
