"""Train a small text-to-image model on labelled images, and write it as a diffusers checkpoint."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from synaug.config import GeneratorTraining, Prompts
from synaug.generator import train_generator
from synaug.images.store import load_pixels
from synaug.plan.prompts import cell_prompts
from synaug.runtime.devices import leased_device
from synaug.runtime.errors import UserError
from synaug.runtime.logs import job_log


def main(
    images: str,
    settings: dict,
    prompts: dict,
    group_columns: list[str],
    held_out: list[str],
    seed: int,
    threads: int,
    state: str,
    out: str,
) -> None:
    """Train on the table `images` into the folder `out`; an interrupted training goes on from the folder `state`.

    With `group_columns` the model learns the words of classes and groups together.
    """
    torch.set_num_threads(threads)
    training = GeneratorTraining.model_validate(settings | {"images": images, "output": out})
    rows = labelled_images(images, held_out, group_columns)
    cells = rows.drop_duplicates(["label", "group"]).sort_values(["label", "group"], ignore_index=True)
    texts = cell_prompts(Prompts.model_validate(prompts), cells, group_columns)
    place = pd.Series(cells.index, pd.MultiIndex.from_frame(cells[["label", "group"]]))
    labels = place.loc[pd.MultiIndex.from_frame(rows[["label", "group"]])].to_numpy()
    pixels = load_pixels(rows, training.size, training.color)
    if training.color == "grey":
        pixels = pixels[..., 0]
    with leased_device() as device:
        train_generator(
            pixels,
            labels.astype(np.int64),
            texts,
            Path(out),
            Path(state),
            size=training.size,
            autoencoder_steps=training.autoencoder_steps,
            denoiser_steps=training.denoiser_steps,
            batch_size=training.batch_size,
            sampling=training.sampling,
            seed=seed,
            device=device,
        )


def labelled_images(table: str, held_out: list[str], group_columns: list[str]) -> pd.DataFrame:
    """Rows (label, label_name, group, attributes, path, row, column): Parquet with images inside, or a manifest.

    Images of the splits `held_out`, and images that are of no use, are left out. Raises UserError if a column is
    missing or nothing is left.
    """
    names = pq.read_schema(table).names
    manifest = "attributes" in names
    columns = [] if manifest else group_columns
    if "label_name" not in names or not {"image", "path"} & set(names) or not set(columns) <= set(names):
        needed = ", ".join(["label_name", *columns])
        raise UserError(f"{table}: needs the columns {needed} and image (or path and row); it has {', '.join(names)}")
    known = ("label", "label_name", "group", "attributes", "split", "path", "row", "column", "usable", *columns)
    wanted = [name for name in known if name in names]
    rows = pq.read_table(table, columns=wanted, partitioning=None).to_pandas()
    if "image" in names:
        rows = rows.assign(path=table, row=np.arange(len(rows)), column="image")
    if "label" not in names:
        rows["label"] = rows["label_name"].rank(method="dense").astype(int)
    if not manifest:
        rows["attributes"] = rows[columns].astype(str).to_numpy().tolist()
        rows["group"] = [", ".join(values) for values in rows["attributes"]]
    if "split" in names:
        rows = rows[~rows["split"].isin(held_out)]
    if "usable" in names:
        rows = rows[rows["usable"]]
    if rows.empty:
        raise UserError(f"{table}: has no image outside the split {' or '.join(map(repr, held_out))}")
    return rows.reset_index(drop=True)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.images,
            snakemake.params.settings,
            snakemake.params.prompts,
            snakemake.params.group_columns,
            snakemake.params.held_out,
            snakemake.params.seed,
            snakemake.threads,
            snakemake.params.state,
            str(Path(snakemake.output.model).parent),
        )
