"""Print what the plan costs, before anything is spent."""

import sys
from pathlib import Path

from synaug.cost import cost_text
from synaug.errors import job_log
from synaug.manifests import read_manifest


def main(plan: str, imbalance: str) -> None:
    """Print the cost of the manifest `plan` (results/<experiment>/plan.parquet) to the terminal."""
    cells = read_manifest("imbalance", imbalance, ["kind", "label", "label_name", "group", "count"])
    text = cost_text(read_manifest("plan", plan), cells[cells["kind"] == "cell"], Path(plan).parents[1])
    # The terminal's own: sys.stdout is the log here.
    print(f"\n{text}\n", file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.input.plan, snakemake.input.imbalance)
