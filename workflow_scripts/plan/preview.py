"""Draw the contact sheet of a preview, and say where it is."""

import sys

import pandas as pd

from synaug.images.contact_sheet import contact_sheet
from synaug.images.tables import ImageTable, encoded_images
from synaug.manifests import read_manifest
from synaug.runtime.files import atomic_path
from synaug.runtime.logs import job_log


def main(images: list[str], fills: list[str], imbalance: str, sheet: str) -> None:
    """Draw the images of the manifests `images` (of kind shard, one for each of `fills`) to the PNG `sheet`."""
    parts = []
    for path, fill in zip(images, fills or [""], strict=True):
        rows = read_manifest("shard", path, ["label_name", "group", "prompt"])
        with ImageTable(path) as table:
            encoded = [image for _, batch in table.stream(["image"]) for image in encoded_images(batch.column(0))]
        parts.append(rows.assign(image=encoded, fill=fill))
    cells = read_manifest("imbalance", imbalance, ["kind", "label", "label_name", "group", "count"])
    with atomic_path(sheet) as temporary:
        contact_sheet(pd.concat(parts), cells[cells["kind"] == "cell"]).save(temporary, "PNG")
    # The terminal's own: sys.stdout is the log here.
    print(f"\nContact sheet: {sheet}\n", file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(list(snakemake.input.images), snakemake.params.fills, snakemake.input.imbalance, snakemake.output.sheet)
