"""Score the images of one shard: contrast, perceptual hash, and what the networks say."""

from synaug.config import Screening
from synaug.manifests import write_manifest
from synaug.plan.shards import rows_of_shard
from synaug.runtime.devices import WHOLE_DEVICE
from synaug.runtime.logs import job_log
from synaug.screening.scoring import ImageForm, open_scorers, score_shard

PLAN_COLUMNS = ["image_id", "label", "label_name", "group", "index", "prompt", "stored_size"]


def main(
    plan: str,
    shard: str,
    name: str,
    classifier: str | None,
    settings: dict,
    threads: int,
    scores: str,
    gpu_share: int = WHOLE_DEVICE,
) -> None:
    """Score the images of the shard `name` at the path `shard`, planned in `plan`, into the manifest `scores`.

    settings: see rules/screening.smk. classifier: its weights, if it is on. gpu_share: the resource of this name.
    """
    screening, form = Screening.model_validate(settings["screening"]), ImageForm(**settings["form"])
    rows = rows_of_shard(plan, name, PLAN_COLUMNS)
    classes = sorted(rows["label_name"].unique())
    with open_scorers(screening, form, classes, classifier, threads, gpu_share) as scorers:
        write_manifest("shard_scores", score_shard(rows, shard, form, scorers, threads), scores)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.plan,
            snakemake.input.shard,
            snakemake.wildcards.shard,
            snakemake.input.get("classifier"),
            snakemake.params.settings,
            snakemake.threads,
            snakemake.output.scores,
            snakemake.resources.gpu_share,
        )
