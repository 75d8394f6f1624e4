"""Choose settings by the validation images of all replicates together, as `select_settings` does for one experiment."""

from evaluation.select_settings import main
from synaug.runtime.logs import job_log

if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            list(snakemake.input.predictions),
            snakemake.params.networks,
            snakemake.input.real,
            snakemake.params.split,
            snakemake.params.recipes,
            snakemake.params.trained_on_split,
            snakemake.output.selection,
        )
