"""Compute the features of all training and evaluation images by a frozen backbone."""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from synaug.balance import rows_of_recipe
from synaug.manifests import read_with_local_paths, write_sorted
from synaug.runtime.devices import leased_device
from synaug.runtime.logs import job_log
from synaug.training.data import images_of_experiment
from synaug.training.features import extract_features

_ROWS = 1024  # of a part of the table


def main(balanced: str, real: str, settings: dict, threads: int, features: str) -> None:
    """Write the manifest `backbone_features` to the file `features` (<results>/backbone_features/<network>.parquet).

    settings: see rules/training.smk. Small images are those that other jobs of the experiment have decoded.
    """
    images = read_with_local_paths("real", real)
    evaluated = images[images["split"].isin(settings["held_out"]) & images["usable"]]
    trained_on = rows_of_recipe(read_with_local_paths("balanced", balanced), settings["data"])
    columns = ["image_id", "sha256", "path", "row", "column"]
    rows = pd.concat([trained_on[columns], evaluated[columns]], ignore_index=True)
    size, color = settings["image_size"], settings["color"]
    iterate = images_of_experiment(Path(features).parents[1], size, color).iterate
    weights = settings["backbone"], settings["pretrained"]
    with leased_device() as device:
        table = extract_features(rows, *weights, size, color, device, threads, iterate)
    # In parts, because a column of Arrow holds less than 2^31 numbers.
    parts = (table[start : start + _ROWS] for start in range(0, len(table), _ROWS))
    tables = (pa.Table.from_pandas(part, preserve_index=False) for part in parts)
    write_sorted("backbone_features", tables, len(table), features)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.balanced,
            snakemake.input.real,
            snakemake.params.settings,
            snakemake.threads,
            snakemake.output.features,
        )
