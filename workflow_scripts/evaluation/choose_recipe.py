"""Choose the recipe that is used in the end, by the validation images."""

import pandas as pd

from synaug.evaluation.choice import Candidate, choose
from synaug.manifests import read_manifest, with_group, write_manifest
from synaug.runtime.logs import job_log


def main(
    predictions: list[str],
    networks: list[tuple[str, str, int]],
    real: str,
    split: str,
    metric: str,
    with_synthetic: list[str],
    out: str,
) -> None:
    """Choose by `predictions` (manifests of this name) and write the manifest `chosen` to `out`.

    networks: stage, recipe and seed of each of `predictions`. real: the manifest of this name. split: name of the
    validation split. metric: `evaluation.choose_by`. with_synthetic: recipes that train on synthetic images.
    """
    correct: dict[tuple[str, str], list] = {}
    for path, (stage, recipe, _) in zip(predictions, networks, strict=True):
        rows = read_manifest("predictions", path, ["image_id", "split", "label", "predicted"])
        rows = rows[rows["split"] == split].set_index("image_id")
        correct.setdefault((recipe, stage), []).append((rows["label"] == rows["predicted"]).astype(float))
    columns = ["image_id", "label_name", "group"]
    images = with_group(read_manifest("real", real, columns)).set_index("image_id").loc[rows.index]
    cells, _ = pd.factorize(images["label_name"].astype(str) + ", " + images["group"].astype(str))
    candidates = [
        Candidate(
            recipe,
            stage,
            recipe in with_synthetic,
            pd.concat(seeds, axis=1).loc[rows.index].mean(axis=1).to_numpy(),
            len(seeds),
        )
        for (recipe, stage), seeds in correct.items()
    ]
    write_manifest("chosen", choose(candidates, rows["label"].to_numpy(), cells, metric), out)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            list(snakemake.input.predictions),
            snakemake.params.networks,
            snakemake.input.real,
            snakemake.params.split,
            snakemake.params.metric,
            snakemake.params.with_synthetic,
            snakemake.output.chosen,
        )
