"""Drop the worse half of the candidates, by the validation images."""

from synaug.balance import recipes_with_images
from synaug.evaluation.choice import read_candidates
from synaug.evaluation.halving import halve
from synaug.manifests import write_manifest
from synaug.runtime.logs import job_log


def main(
    predictions: list[str],
    networks: list[tuple[str, str, int]],
    real: str,
    split: str,
    metric: str,
    images: dict[str, dict],
    balanced: str,
    always: list[str],
    stage1: dict[str, str],
    out: str,
) -> None:
    """Compare `predictions` (manifests of this name) and write the manifest `candidates` to `out`.

    networks, real, split: see `read_candidates`. images, balanced: see `recipes_with_images`. metric:
    `evaluation.choose_by`. always, stage1: see `synaug.evaluation.halving.kept`.
    """
    with_synthetic = recipes_with_images(images, balanced)
    candidates, validation = read_candidates(predictions, networks, real, split, with_synthetic)
    write_manifest("candidates", halve(candidates, validation, metric, always, stage1), out)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            list(snakemake.input.predictions),
            snakemake.params.networks,
            snakemake.input.real,
            snakemake.params.split,
            snakemake.params.metric,
            snakemake.params.images,
            snakemake.params.balanced,
            snakemake.params.always,
            snakemake.params.stage1,
            snakemake.output.candidates,
        )
