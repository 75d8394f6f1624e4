"""Score every synthetic image: contrast, networks, and the nearest other images."""

import os
from pathlib import Path

from synaug.config import Screening
from synaug.manifests import class_names, read_manifest, read_with_local_paths, write_manifest
from synaug.manifests.schemas import SCHEMAS
from synaug.runtime.logs import job_log
from synaug.runtime.paths import logical_path, results_root
from synaug.screening.scoring import DatasetSpec, score_images

PLAN_COLUMNS = ["image_id", "label", "label_name", "group", "index", "prompt", "stored_size", "shard"]


def main(
    plan: str, shards: list[str], real: str | None, classifier: str | None, settings: dict, threads: int, out
) -> None:
    """Score the images of `plan` in `shards` into `out.scores` and, with a feature space, `out.features`.

    settings: see rules/screening.smk. real: only with networks or leakage. classifier: its weights, if it is on.
    """
    screening, form = Screening.model_validate(settings["screening"]), DatasetSpec(**settings["form"])
    rows, images = read_manifest("plan", plan, PLAN_COLUMNS), read_with_local_paths("real", real) if real else None
    paths = {Path(path).stem: path for path in shards}
    if screening.classifier or screening.text_image or screening.safety:
        scores, features = _with_networks(rows, paths, images, classifier, screening, form, threads)
    else:
        scores, features = score_images(rows, paths, images, screening, form)
    names = {path: logical_path(path, results_root(plan)) for path in shards}
    write_manifest("scores", scores.assign(path=scores["path"].map(names)), out.scores)
    if screening.feature_space:
        write_manifest("features", SCHEMAS["features"].empty_table() if features is None else features, out.features)


def _with_networks(rows, paths, images, classifier, screening, form, threads):
    """As score_images, on a device. Its imports take seconds that a screening without networks need not wait."""
    import torch

    from synaug.runtime.devices import leased_device
    from synaug.screening.scorers import load_scorers

    torch.set_num_threads(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    classes = class_names(images)
    with leased_device() as device:
        scorers = load_scorers(screening, form, classes, classifier, device)
        return score_images(rows, paths, images, screening, form, scorers)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.plan,
            list(snakemake.input.shards),
            snakemake.input.get("real"),
            snakemake.input.get("classifier"),
            snakemake.params.settings,
            snakemake.threads,
            snakemake.output,
        )
