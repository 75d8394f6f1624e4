"""Choose settings by the validation images of all replicates together, as `select_settings` does for one experiment."""

from evaluation.select_settings import run
from synaug.runtime.logs import job_log

if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        run(snakemake)
