"""Score the real images once: perceptual hash, features, and the classes that the screening classifier predicts."""

from synaug.config import Screening
from synaug.manifests import class_names, read_with_local_paths, write_manifest
from synaug.runtime.devices import WHOLE_DEVICE
from synaug.runtime.logs import job_log
from synaug.screening.scoring import ImageForm, open_scorers, score_real


def main(
    real: str,
    classifier: str | None,
    settings: dict,
    threads: int,
    scores: str,
    gpu_share: int = WHOLE_DEVICE,
) -> None:
    """Score the usable images of the manifest `real` into the manifest `scores`. The rest as for `score_shard`."""
    screening, form = Screening.model_validate(settings["screening"]), ImageForm(**settings["form"])
    images = read_with_local_paths("real", real)
    usable = images[images["usable"] & images["split"].isin(settings["splits"])]
    classes = class_names(images)
    with open_scorers(screening, form, classes, classifier, threads, gpu_share) as scorers:
        write_manifest("real_scores", score_real(usable, form, scorers, threads), scores)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.real,
            snakemake.input.get("classifier"),
            snakemake.params.settings,
            snakemake.threads,
            snakemake.output.scores,
            snakemake.resources.gpu_share,
        )
