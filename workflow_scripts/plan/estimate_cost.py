"""Print what the plan costs, before anything is spent."""

import sys
from pathlib import Path
from typing import Literal

from synaug.generation.existing import stored_ids
from synaug.manifests import read_manifest
from synaug.plan.estimate import cost_text, read_plan
from synaug.plan.rows import plan_from_settings, read_sources
from synaug.runtime.logs import job_log


def main(
    plan: str | None,
    imbalance: str,
    real: str | None,
    settings: dict,
    pilot: int | None,
    compile: bool | Literal["auto"],
) -> None:
    """Print the cost of the manifest `plan` to the terminal; without one, of all images that the gate could allow.

    imbalance, real: manifests in results/<experiment>/; `real` for image-to-image without a plan. settings:
    PLAN_SETTINGS of rules/plan.smk. pilot: images of each class and fill that are made first. compile: the key of
    `generation`.
    """
    cells = read_manifest("imbalance", imbalance)
    if plan:
        rows = read_plan(plan)
    else:
        rows = plan_from_settings(cells, settings, read_sources(real, settings["train_split"]) if real else None)
    results = Path(imbalance).parents[1]
    text = cost_text(rows, cells[cells["kind"] == "cell"], results, compile)
    if pilot:
        first = set(rows.loc[rows["index"] < pilot, "image_id"])
        made_first = len(first - stored_ids(first, results))
        text += (
            f"\nThe pilot makes {made_first:,} of these images. Then the gate decides how many of the others are made."
        )
    # The terminal's own: sys.stdout is the log here.
    print(f"\n{text}\n", file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.get("plan"),
            snakemake.input.imbalance,
            snakemake.input.get("real"),
            snakemake.params.settings,
            snakemake.params.pilot,
            snakemake.params.compile,
        )
