"""Print what the plan costs, before anything is spent."""

import sys
from pathlib import Path

from synaug.manifests import read_manifest
from synaug.plan.estimate import cost_text
from synaug.runtime.logs import job_log


def main(plan: str, imbalance: str) -> None:
    """Print the cost of the manifest `plan` (results/<experiment>/plan.parquet) to the terminal."""
    cells = read_manifest("imbalance", imbalance, ["kind", "label", "label_name", "group", "count"])
    text = cost_text(read_manifest("plan", plan), cells[cells["kind"] == "cell"], Path(plan).parents[1])
    # The terminal's own: sys.stdout is the log here.
    print(f"\n{text}\n", file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.input.plan, snakemake.input.imbalance)
