"""Train the classifier of the screening on the real training images."""

from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import torch

from synaug.images.codec import CHANNELS, LARGE
from synaug.images.packing import pack_images
from synaug.manifests import class_names, read_with_local_paths, write_manifest
from synaug.networks.classifier import save_classifier
from synaug.runtime.allocation import use_large_pages
from synaug.runtime.devices import WHOLE_DEVICE, leased_device
from synaug.runtime.files import temporary_folder
from synaug.runtime.logs import job_log
from synaug.screening.classifier import train_screening_classifier
from synaug.training.data import LargeImages, compute_feature_set, images_of_experiment, open_training_set
from synaug.training.memory import share_for

_IN_MEMORY = 2 << 30  # bytes of decoded images that are kept on the device


def main(real: str, settings: dict, experiment: Path, threads: int, out: str, gpu_share: int = WHOLE_DEVICE) -> None:
    """Train on the manifest `real` into the file `out`.

    settings: see rules/screening.smk. experiment: folder whose decoded images are used. gpu_share: the resource of this
    name.
    """
    # Whatever the machine, as in rule train.
    torch.set_num_threads(1)
    use_large_pages()
    images = read_with_local_paths("real", real)
    classes = class_names(images)
    train = images[(images["split"] == settings["train_split"]) & images["usable"]].assign(source="real", weight=1.0)
    network, size, color = settings["network"], settings["image_size"], settings["color"]
    decoded = images_of_experiment(experiment, size, color)
    with ExitStack() as opened, leased_device(share_for(len(train), gpu_share)) as device:
        if network:
            weights = network["backbone"], network["pretrained"]
            data = compute_feature_set(train, *weights, size, color, device, threads, decoded)
        else:
            if size > LARGE and len(train) * size**2 * CHANNELS[color] > _IN_MEMORY:
                decoded = _packed(
                    train, opened.enter_context(temporary_folder(Path(out).with_name("images"))), size, color, threads
                )
            data = open_training_set(train, decoded, device)
        augmentation = {key: settings[key] for key in ("shift", "flip") if key in settings}
        model = train_screening_classifier(data, classes, settings["steps"], settings["seed"], network, augmentation)
        save_classifier(model, out)


def _packed(train: pd.DataFrame, folder: Path, size: int, color: str, threads: int) -> LargeImages:
    """The images of `train` (of the manifest `real`) in one file in `folder`, decoded when they are drawn."""
    images, index = folder / "images.bin", folder / "packed.parquet"
    write_manifest("packed", pack_images(train, images), index)
    return LargeImages(str(images), str(index), size, color, threads)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.real,
            snakemake.params.settings,
            Path(snakemake.output.model).parents[1],
            snakemake.threads,
            snakemake.output.model,
            snakemake.resources.gpu_share,
        )
