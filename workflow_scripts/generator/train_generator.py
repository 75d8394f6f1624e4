"""Train a small text-to-image model on labelled images, and save it as a diffusers checkpoint."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from synaug.config import Prompts
from synaug.generator.output_folder import check_output_folder
from synaug.generator.train import train_generator
from synaug.generator.training_data import read_labelled_images
from synaug.images.store import load_pixels
from synaug.plan.prompts import cell_prompts
from synaug.runtime.devices import leased_device
from synaug.runtime.logs import job_log
from synaug.training.sampling import image_probabilities


def main(
    images: str,
    settings: dict,
    prompts: dict,
    group_columns: list[str],
    train_split: str,
    held_out: list[str],
    seed: int,
    threads: int,
    state: str,
    out: str,
) -> None:
    """Train on the table `images` into the folder `out`; an interrupted training continues from the folder `state`.

    settings: start (may be missing), size, color, autoencoder_steps, denoiser_steps, batch_size and sampling of the
    config block `generator`.
    prompts: the config block. With `group_columns` the model learns the words of classes and of groups.
    """
    check_output_folder(out, [images, state])
    torch.set_num_threads(threads)
    rows, known = read_labelled_images(images, train_split, held_out, group_columns)
    # The generator's labels are the cells, class x group, in their order.
    cell_columns = ["label", "group"]
    cells = rows.drop_duplicates(cell_columns).sort_values(cell_columns, ignore_index=True)
    of_known = cell_prompts(captions := Prompts.model_validate(prompts), known, group_columns)
    text_of = dict(zip(map(tuple, known[cell_columns].to_numpy()), of_known, strict=True))
    texts = [text_of[tuple(cell)] for cell in cells[cell_columns].to_numpy()]
    number_of_cell = pd.Series(cells.index, pd.MultiIndex.from_frame(cells[cell_columns]))
    labels = number_of_cell.loc[pd.MultiIndex.from_frame(rows[cell_columns])].to_numpy(np.int64)
    pixels = load_pixels(rows, settings["size"], settings["color"])
    with leased_device() as device:
        train_generator(
            pixels[..., 0] if settings["color"] == "grey" else pixels,
            labels,
            texts,
            Path(out),
            Path(state),
            size=settings["size"],
            autoencoder_steps=settings["autoencoder_steps"],
            denoiser_steps=settings["denoiser_steps"],
            batch_size=settings["batch_size"],
            image_probabilities=image_probabilities(labels, settings["sampling"]),
            seed=seed,
            start=Path(settings["start"]) if settings.get("start") else None,
            device=device,
            truncate=captions.truncate,
        )


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.images,
            snakemake.params.settings,
            snakemake.params.prompts | {"truncate": bool(snakemake.resources.truncate)},
            snakemake.params.group_columns,
            snakemake.resources.train_split,
            snakemake.params.held_out,
            snakemake.params.seed,
            snakemake.threads,
            snakemake.params.state,
            str(Path(snakemake.output.model).parent),
        )
