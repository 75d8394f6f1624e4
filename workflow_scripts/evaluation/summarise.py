"""Mean and 95 % interval over seeds of every figure, and what it cost."""

from pathlib import Path

from synaug.evaluation.costs import add_costs
from synaug.evaluation.intervals import summarise
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.logs import job_log


def main(metrics: str, balanced: str, plan: str, data: dict[str, str], stage1: dict[str, str], summary: str) -> None:
    """Summarise the manifest `metrics` into the manifest `summary`.

    data: recipe -> real or balanced. stage1: recipe -> the one whose stage-1 networks it takes. Seconds come from
    benchmarks/ and costs/ beside `metrics`, which no rule depends on: they are never twice the same.
    """
    figures = read_manifest("metrics", metrics)
    table = add_costs(
        summarise(figures),
        sorted(figures["seed"].unique()),
        data,
        stage1,
        read_manifest("balanced", balanced, ["image_id", "label_name", "group", "source"]),
        read_manifest("plan", plan, ["shard"])["shard"].unique().tolist(),
        Path(metrics).parent,
    )
    write_manifest("summary", table, summary)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.metrics,
            snakemake.input.balanced,
            snakemake.input.plan,
            snakemake.params.data,
            snakemake.params.stage1,
            snakemake.output.summary,
        )
