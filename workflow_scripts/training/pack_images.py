"""Copy all images that networks train on or are evaluated on into one file, which is read at random."""

import pandas as pd

from synaug.images.packing import pack_images
from synaug.manifests import read_with_local_paths, write_manifest
from synaug.runtime.logs import job_log


def main(balanced: str, real: str, settings: dict, images: str, index: str) -> None:
    """Write the images of the manifest `balanced`, and the held-out ones of `real`, to the file `images`.

    `index` is the manifest that says where each one lies. settings: held_out (splits).
    """
    held_out = read_with_local_paths("real", real)
    held_out = held_out[held_out["split"].isin(settings["held_out"]) & held_out["usable"]]
    rows = pd.concat([read_with_local_paths("balanced", balanced), held_out])[["image_id", "path", "row", "column"]]
    write_manifest("packed", pack_images(rows, images), index)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.balanced,
            snakemake.input.real,
            snakemake.params.settings,
            snakemake.output.images,
            snakemake.output.index,
        )
