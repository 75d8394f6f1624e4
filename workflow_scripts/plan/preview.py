"""Draw the contact sheet of a preview, and say where it is."""

import sys

from synaug.images.contact_sheet import contact_sheet
from synaug.images.tables import ImageTable, encoded_images
from synaug.manifests import read_manifest
from synaug.runtime.files import atomic_path
from synaug.runtime.logs import job_log


def main(images: str, imbalance: str, sheet: str) -> None:
    """Draw the images of the manifest `images` (of kind shard) to the PNG `sheet`."""
    rows = read_manifest("shard", images, ["label_name", "group", "prompt"])
    with ImageTable(images) as table:
        rows["image"] = [image for _, batch in table.stream(["image"]) for image in encoded_images(batch.column(0))]
    cells = read_manifest("imbalance", imbalance, ["kind", "label", "label_name", "group", "count"])
    with atomic_path(sheet) as temporary:
        contact_sheet(rows, cells[cells["kind"] == "cell"]).save(temporary, "PNG")
    # The terminal's own: sys.stdout is the log here.
    print(f"\nContact sheet: {sheet}\n", file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.input.images, snakemake.input.imbalance, snakemake.output.sheet)
