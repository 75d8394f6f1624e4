"""Find the nearest neighbours of every synthetic image among the earlier, the training and the test images."""

from contextlib import nullcontext
from pathlib import Path

from synaug.manifests import read_table, write_manifest, write_sorted
from synaug.manifests.schemas import SCHEMAS
from synaug.manifests.sorting import sorted_rows
from synaug.runtime.logs import job_log
from synaug.runtime.paths import logical_path, results_root
from synaug.screening.comparison import compare_images, read_real_images
from synaug.screening.planned import Planned

PLAN_COLUMNS = ["image_id", "label", "label_name", "group", "fill", "index", "shard"]


def main(plan: str, scored: list[str], real: str | None, settings: dict, threads: int, out) -> None:
    """Join the scores of all shards of `plan` into `out.scores`, with neighbours; with features also `out.features`.

    scored: files of the manifest `shard_scores`, scores/<shard>.parquet. real: the manifest `real_scores`, only with
    features or leakage. settings: see rules/screening.smk.
    """
    planned = Planned(read_table("plan", plan, PLAN_COLUMNS))
    shards = str(Path(logical_path(plan, results_root(plan))).with_name("shards"))
    real_images = read_real_images(real) if real else None
    with _device(threads) if out.get("features") else nullcontext("cpu") as device:
        scores, features = compare_images(planned, scored, shards, real_images, **settings, device=device)
    rows = sorted_rows("scores", scores, Path(out.scores), threads)
    write_sorted("scores", rows, len(planned), out.scores)
    if out.get("features"):
        write_manifest("features", SCHEMAS["features"].empty_table() if features is None else features, out.features)


def _device(threads: int):
    """A leased device. The import takes seconds that a comparison without features need not wait."""
    import torch

    from synaug.runtime.devices import leased_device

    torch.set_num_threads(threads)
    return leased_device()


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.plan,
            list(snakemake.input.scores),
            snakemake.input.get("real"),
            snakemake.params.settings,
            snakemake.threads,
            snakemake.output,
        )
