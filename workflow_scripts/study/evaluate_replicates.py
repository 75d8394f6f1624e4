"""Score the networks of all replicates of a variant together, as `evaluate` does for one experiment."""

from evaluation.evaluate import run
from synaug.runtime.logs import job_log

if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        run(snakemake)
