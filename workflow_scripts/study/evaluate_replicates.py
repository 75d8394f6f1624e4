"""Score the networks of all replicates of a variant together, as `evaluate` does for one experiment."""

from evaluation.evaluate import main
from synaug.runtime.logs import job_log

if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            list(snakemake.input.predictions),
            snakemake.params.networks,
            snakemake.input.imbalance,
            snakemake.input.real,
            snakemake.params.test_split,
            snakemake.params.group_columns,
            list(snakemake.input.probes),
            snakemake.params.baselines,
            snakemake.params.stage1,
            snakemake.output.metrics,
            snakemake.output.differences,
        )
