"""Draw the contact sheet of a preview, and say where it is."""

import sys

from synaug.images.contact_sheet import contact_sheet
from synaug.images.store import encoded_images
from synaug.manifests import read_manifest, read_table
from synaug.runtime.files import atomic_path
from synaug.runtime.logs import job_log


def main(images: str, imbalance: str, sheet: str) -> None:
    """Draw the images of the manifest `images` (of kind shard) to the PNG `sheet`."""
    table = read_table("shard", images, ["image", "label_name", "group", "prompt"])
    rows = table.drop(["image"]).to_pandas().astype("str").assign(image=encoded_images(table.column("image")))
    cells = read_manifest("imbalance", imbalance, ["kind", "label", "label_name", "group", "count"])
    with atomic_path(sheet) as temporary:
        contact_sheet(rows, cells[cells["kind"] == "cell"]).save(temporary, "PNG")
    # The terminal's own: sys.stdout is the log here.
    print(f"\nContact sheet: {sheet}\n", file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.input.images, snakemake.input.imbalance, snakemake.output.sheet)
