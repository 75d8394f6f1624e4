"""Plan the first images of every class and fill, by which the gate decides whether the others are planned."""

from plan.plan_generation import run
from synaug.runtime.logs import job_log

if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        run(snakemake)
