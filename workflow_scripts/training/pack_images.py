"""Copy all training images into one file, so that training reads them at random without opening each."""

from synaug.manifests import read_with_local_paths, write_manifest
from synaug.runtime.logs import job_log
from synaug.training.packed import pack_images


def main(balanced: str, images: str, index: str) -> None:
    """Pack the images of the manifest `balanced` into the file `images`; `index` says where each one lies."""
    write_manifest("packed", pack_images(read_with_local_paths("balanced", balanced), images), index)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.input.balanced, snakemake.output.images, snakemake.output.index)
