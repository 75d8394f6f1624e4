"""The method without Snakemake: a script that calls the library, on the embedded data and with the embedded generator.

    python docs/examples/without_snakemake.py example_output

It measures the imbalance, makes ten images of the two rarest classes, screens them, adds them to the real images,
trains a small network and prints its accuracy. The files go to the folder example_output. It takes less than a minute
on a CPU: ten images and 60 steps show how the parts fit, and not what the method can do.
"""

import sys
from pathlib import Path

import pyarrow as pa
import torch

from synaug.balance import build_balanced_manifest
from synaug.config import load_config
from synaug.datasets import index_dataset
from synaug.generation.shards import generate_shard
from synaug.images.contact_sheet import draw_sheet_of
from synaug.imbalance import measure_imbalance
from synaug.manifests import class_names, read_table, to_frame, write_manifest
from synaug.networks.classifier import save_classifier
from synaug.plan.rows import plan_from_settings
from synaug.screening.comparison import compare_images, read_real_images
from synaug.screening.filters import apply_filters
from synaug.screening.planned import Planned
from synaug.screening.scoring import ImageForm, score_real, score_shard
from synaug.training.data import DecodedImages, open_training_set, predict_rows
from synaug.training.stage1 import train_stage1

RESOURCES = Path(__file__).resolve().parents[2] / "resources"

# The keys are those of config.yaml, which explains them. What is not given has its default.
CONFIG = load_config(
    {
        "experiment": "example",
        "dataset": {
            "source": "table",
            "path": str(RESOURCES / "fashion_mnist_lt"),
            "label_column": "label_name",
            "image_size": 32,
            "color": "grey",
        },
        # Every class gets at least 10 real and synthetic images together: 7 are missing, of two classes. 1.4 times as
        # many are made, because the screening may reject some.
        "balance": {"strategy": "fixed", "target": 10, "oversample": 1.4},
        "prompts": {"names": {"Ankle boot": "ankle boot", "Bag": "bag"}},
        "generation": {"model": str(RESOURCES / "embedded_generator"), "size": 32, "steps": 4, "guidance": 2.25},
        # An image with the perceptual hash of a real one is rejected.
        "screening": {"leakage": {"max_hash_distance": 0}},
        "training": {"backbone": "resnet8", "width": 16, "steps": 60, "batch_size": 64, "mixup": {"alpha": 1.0}},
        "recipes": {"synaug": {"data": "balanced"}},
    }
)


def main(out: Path) -> float:
    """Run the example with the output folder `out`. Returns the accuracy on the test images, 0 to 1."""
    size, color = CONFIG.dataset.image_size, CONFIG.dataset.color
    out.mkdir(parents=True, exist_ok=True)

    # 1. Measure. Tables are pandas DataFrames; docs/reference/manifests.md describes their columns.
    real = index_dataset(CONFIG.dataset)
    imbalance = measure_imbalance(real, "train", CONFIG.imbalance)
    summary = imbalance[imbalance["kind"] == "summary"].iloc[0]
    print(f"{summary['count']} training images, imbalance factor {summary['imbalance_factor']:.0f}")

    # 2. Plan: a row for each image that is to be made. A shard is a file of images; ten fit into one.
    plan = plan_from_settings(imbalance, CONFIG.plan_settings())
    write_manifest("plan", plan, out / "plan.parquet")
    (shard,) = plan["shard"].unique()
    print(plan["label_name"].value_counts().to_string(header=False))

    # 3. Make the images. `existing` could name shards of other experiments; images that they have are copied.
    images = out / "shards" / f"{shard}.parquet"
    generate_shard(plan, batch_size=10, out=images, work=out / "work", existing=[], threads=torch.get_num_threads())
    draw_sheet_of(images, out / "images.png", images_per_row=10)

    # 4. Screen: score the images one by one, compare them with the real ones, and hold the scores against the limits.
    form = ImageForm(size, color)
    scores_file, real_scores_file = out / "scores" / f"{shard}.parquet", out / "real_scores.parquet"
    write_manifest("shard_scores", score_shard(plan, str(images), form), scores_file)
    write_manifest("real_scores", score_real(real[real["usable"]], form), real_scores_file)
    scores, _ = compare_images(
        Planned(read_table("plan", out / "plan.parquet")),
        [str(scores_file)],
        str(images.parent),
        read_real_images(str(real_scores_file)),
        "train",
        duplicates=False,
        leakage=True,
    )
    synthetic = apply_filters(to_frame(pa.concat_tables(scores)), CONFIG.screening)
    print(f"{synthetic['accepted'].sum()} of {len(synthetic)} images accepted")

    # 5. Build: all real training images and, of the accepted synthetic ones, as many as are wanted.
    balanced = build_balanced_manifest(real, synthetic, imbalance, "train", CONFIG.balance)
    write_manifest("balanced", balanced, out / "balanced.parquet")
    print(balanced["source"].value_counts().to_string(header=False))

    # 6. Train stage 1, and let the network classify the test images.
    pixels = DecodedImages(size, color)
    data = open_training_set(balanced, pixels, "cpu")
    model, _ = train_stage1(data, class_names(real), CONFIG.recipes["synaug"].stage1, seed=0)
    save_classifier(model, out / "model.safetensors")
    predictions = predict_rows(model, real[(real["split"] == "test") & real["usable"]], pixels)
    accuracy = float((predictions["predicted"] == predictions["label"]).mean())
    print(f"accuracy on {len(predictions)} test images: {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main(Path(sys.argv[1]))
