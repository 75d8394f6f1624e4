"""Train the classifier of the screening on the real training images."""

import torch

from synaug.manifests import class_names, read_with_local_paths
from synaug.networks.classifier import save_classifier
from synaug.runtime.devices import leased_device
from synaug.runtime.logs import job_log
from synaug.screening.classifier import train_screening_classifier
from synaug.training.data import load_training_set


def main(real: str, settings: dict, threads: int, out: str) -> None:
    """Train on the manifest `real` into the file `out`. settings: see rules/screening.smk."""
    torch.set_num_threads(threads)
    images = read_with_local_paths("real", real)
    classes = class_names(images)
    train = images[(images["split"] == settings["train_split"]) & images["usable"]].assign(source="real", weight=1.0)
    with leased_device() as device:
        data = load_training_set(train, settings["image_size"], settings["color"], device)
        save_classifier(train_screening_classifier(data, classes, settings["steps"], settings["seed"]), out)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.input.real, snakemake.params.settings, snakemake.threads, snakemake.output.model)
