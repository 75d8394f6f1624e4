"""Score the real images once: perceptual hash, features, and the classes that the screening classifier predicts."""

from synaug.config import Screening
from synaug.manifests import class_names, read_with_local_paths, write_manifest
from synaug.runtime.logs import job_log
from synaug.screening.scoring import ImageForm, open_scorers, score_real


def main(real: str, classifier: str | None, settings: dict, threads: int, scores: str) -> None:
    """Score the usable images of the manifest `real` into the manifest `scores`. The rest as for `score_shard`."""
    screening, form = Screening.model_validate(settings["screening"]), ImageForm(**settings["form"])
    images = read_with_local_paths("real", real)
    usable = images[images["usable"] & images["split"].isin(settings["splits"])]
    with open_scorers(screening, form, class_names(images), classifier, threads) as scorers:
        write_manifest("real_scores", score_real(usable, form, scorers), scores)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.real,
            snakemake.input.get("classifier"),
            snakemake.params.settings,
            snakemake.threads,
            snakemake.output.scores,
        )
