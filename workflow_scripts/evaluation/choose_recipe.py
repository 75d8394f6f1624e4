"""Choose the recipe that is used in the end, by the validation images."""

from synaug.balance import recipes_with_images
from synaug.evaluation.choice import choose, read_candidates
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
    out: str,
) -> None:
    """Choose by `predictions` (manifests of this name) and write the manifest `chosen` to `out`.

    networks, real, split: see `read_candidates`. images, balanced: see `recipes_with_images`. metric:
    `evaluation.choose_by`.
    """
    with_synthetic = recipes_with_images(images, balanced)
    candidates, validation = read_candidates(predictions, networks, real, split, with_synthetic)
    write_manifest("chosen", choose(candidates, validation.labels, validation.cells, metric), out)


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
            snakemake.output.chosen,
        )
