"""The Arrow schema of every manifest: columns, types, and what they mean (in the metadata of each field)."""

import pyarrow as pa

SCHEMA_VERSION = "1"

# The struct that Hugging Face `datasets` knows as an image: encoded bytes, and a file name.
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
# Strings that repeat over many rows.
REPEATED = pa.dictionary(pa.int32(), pa.string())


def _field(name: str, kind: pa.DataType, about: str, nullable: bool = False, default: str | None = None) -> pa.Field:
    """default: what the column holds if the rows that are written lack it."""
    metadata = {"about": about} if default is None else {"about": about, "default": default}
    return pa.field(name, kind, nullable=nullable, metadata=metadata)


_GROUP = _field("group", REPEATED, "values of dataset.group_columns with ', ' between; empty: no groups", default="")
_CELL = [
    _field("label", pa.int32(), "class, position in the sorted class names"),
    _field("label_name", REPEATED, "class name"),
    _GROUP,
]
_ATTRIBUTES = _field("attributes", pa.list_(pa.string()), "values of dataset.group_columns", nullable=True)
_LOCATION = [
    _field("path", REPEATED, "file that holds the image", nullable=True),
    _field("row", pa.int64(), "row of the table at `path`; null: the file itself is the image", nullable=True),
    _field("column", REPEATED, "column of that table; null: the file itself is the image", nullable=True),
]
_SIZE = [_field("width", pa.int32(), "pixels", nullable=True), _field("height", pa.int32(), "pixels", nullable=True)]
# Everything that decides the pixels of a synthetic image, and nothing else: image_id is the hash of these.
PIXEL_COLUMNS = [
    _field("pipeline", REPEATED, "text-to-image, image-to-image or class-conditional"),
    _field("model", REPEATED, "hub id or folder of the model"),
    _field("model_version", REPEATED, "hub: revision; folder: hash of its contents"),
    _field("adapters", REPEATED, "LoRA and textual inversion, as JSON; empty: none"),
    _field("scheduler", REPEATED, "diffusers scheduler class; empty: the checkpoint's own"),
    _field("steps", pa.int32(), "denoising steps"),
    _field("guidance", pa.float64(), "classifier-free guidance scale"),
    _field("strength", pa.float64(), "share of the noise in image-to-image; null: all", nullable=True),
    _field("size", pa.int32(), "side of the image as sampled, pixels"),
    _field("stored_size", pa.int32(), "side of the image as stored, pixels"),
    _field("color", REPEATED, "grey or rgb"),
    _field("format", REPEATED, "png, webp or jpeg"),
    _field("dtype", REPEATED, "floating-point type of the model"),
    _field("prompt", REPEATED, "text"),
    _field("negative_prompt", REPEATED, "text; empty: none"),
    _field("seed", pa.int64(), "of the image's own random generator"),
    _field("source_image", pa.string(), "image_id of the real image it starts from; null: noise alone", nullable=True),
    _field("sampler_version", pa.int32(), "raised when the sampling code changes pixels"),
]
_ID = _field("image_id", pa.string(), "real: hash of the file; synthetic: hash of everything that decides the pixels")
_SHA256 = _field("sha256", pa.string(), "of the encoded image")
_INDEX = _field("index", pa.int32(), "number within the cell, in the order of the plan")
# What the screening knows of a synthetic image; null: not computed, or the image could not be read.
SCORE_COLUMNS = [
    _field("contrast", pa.float64(), "standard deviation of the pixels, 0 to 255", nullable=True),
    _field("text_image_score", pa.float32(), "cosine similarity of image and prompt, -1 to 1", nullable=True),
    _field("classifier_confidence", pa.float32(), "probability of the own class, 0 to 1", nullable=True),
    _field("safety_score", pa.float32(), "probability of the unsafe labels, 0 to 1", nullable=True),
    *[
        one
        for name, what in (
            ("earlier", "earlier synthetic image of the class"),
            ("train", "real training image"),
            ("test", "test image"),
        )
        for one in (
            _field(f"nearest_{name}", pa.string(), f"id of the {what} with the most similar features", nullable=True),
            _field(f"nearest_{name}_similarity", pa.float32(), "cosine similarity to it, -1 to 1", nullable=True),
            _field(f"hash_nearest_{name}", pa.string(), f"id of the {what} with the nearest hash", nullable=True),
            _field(f"nearest_{name}_distance", pa.int32(), "differing bits of the hashes, 0 to 64", nullable=True),
        )
    ],
]
_NETWORKS = [
    _field("recipe", REPEATED, "recipe of the config"),
    _field("stage", REPEATED, "train: whole network; finetune: last layer re-trained"),
]
_FIGURE = [
    _field(
        "metric",
        REPEATED,
        "accuracy: share of right answers; ece: expected calibration error of the top probability (15 bins, 0: best), "
        "domain_probe: share of training images whose kind a linear classifier tells (0.5: chance); pair_probe, "
        "swap_drop: whether networks use group and kind as a shortcut, see synaug/evaluation/shortcut.py; "
        "with groups also tpr, fpr, selection_rate, demographic_parity_difference and _ratio, "
        "equal_opportunity_difference, equalized_odds_difference and _ratio",
    ),
    _field(
        "subset",
        REPEATED,
        "all; many, medium, few (their classes); of accuracy also balanced, harmonic_mean, geometric_mean, worst_class "
        "(over the accuracies of all classes), class:<name>; with groups group:<name>, cell:<class>|<group>, "
        "worst_group, worst_cell, groups:<group column> (compared with each other)",
    ),
    _field(
        "weighting", REPEATED, "what counts the same: images, classes, domains, cells, groups; training: cells, by size"
    ),
]
_OVER_SEEDS = [
    _field("low", pa.float64(), "lower end of its 95 % interval (Student t); null with one seed", nullable=True),
    _field("high", pa.float64(), "upper end of that interval", nullable=True),
]

SCHEMAS: dict[str, pa.Schema] = {
    "real": pa.schema(
        [
            _ID,
            _field("split", REPEATED, "train, test, ..."),
            *_CELL,
            _ATTRIBUTES,
            *_LOCATION,
            *_SIZE,
            _SHA256,
            _field("usable", pa.bool_(), "whether the image can be decoded"),
            _field("reason", pa.string(), "why not", nullable=True),
        ]
    ),
    "imbalance": pa.schema(
        [
            _field(
                "kind", pa.string(), "cell: class, or class in a group; with groups also class, group; summary: all"
            ),
            _field("label", pa.int32(), "class", nullable=True),
            _field("label_name", REPEATED, "class name", nullable=True),
            _field("group", REPEATED, "group; empty: no groups, or all of them", default=""),
            _ATTRIBUTES,
            _field("count", pa.int64(), "usable real training images"),
            _field("share", pa.float64(), "of all usable real training images"),
            _field("deficit", pa.int64(), "images that it lacks to the largest of its kind"),
            _field("shot", REPEATED, "many, medium or few", nullable=True),
            _field("imbalance_factor", pa.float64(), "largest cell / smallest that is not empty", nullable=True),
            _field("gini", pa.float64(), "Gini coefficient of the counts, 0 is balanced", nullable=True),
            _field("entropy", pa.float64(), "entropy of the shares / log(classes), 1 is balanced", nullable=True),
            _field("effective_classes", pa.float64(), "exp(entropy): classes of equal size, as uneven", nullable=True),
            _field("empty_cells", pa.int32(), "classes without an image in a group", nullable=True),
            _field("mutual_information", pa.float64(), "of class and group, nats; 0: independent", nullable=True),
            _field("cramers_v", pa.float64(), "of class and group, 0 to 1", nullable=True),
        ]
    ),
    "plan": pa.schema(
        [
            _ID,
            *_CELL,
            _field("index", pa.int32(), "number within the cell"),
            *PIXEL_COLUMNS,
            _field("shard", REPEATED, "the file shards/<shard>.parquet that will hold it"),
            _field("licence", REPEATED, "licence of the model's images"),
        ]
    ),
    "shard": pa.schema(
        [
            pa.field("image", IMAGE, metadata={"about": "the encoded image"}),
            _ID,
            _field("label_name", REPEATED, "class name; its number depends on the experiment"),
            _GROUP,
            _SHA256,
            *_SIZE,
            *PIXEL_COLUMNS,
            _field("licence", REPEATED, "licence of the model's images"),
            _field("batch_size", pa.int32(), "images sampled together"),
            _field("device", REPEATED, "name of the device that sampled"),
            _field("threads", pa.int32(), "CPU threads of the sampler"),
            _field("libraries", REPEATED, "versions of torch, diffusers and transformers"),
        ]
    ),
    "scores": pa.schema(
        [
            _ID,
            *_CELL,
            _INDEX,
            *_LOCATION,
            *_SIZE,
            _SHA256,
            *SCORE_COLUMNS,
            _field("fault", pa.string(), "why the file can't be used", nullable=True),
        ]
    ),
    "features": pa.schema(
        [
            _ID,
            *_CELL,
            _field("source", REPEATED, "real (training images) or synthetic"),
            _field("features", pa.list_(pa.float32()), "of the network that `extractor` names"),
            _field("extractor", REPEATED, "which network made the features, and its version"),
        ]
    ),
    "synthetic": pa.schema(
        [
            _ID,
            *_CELL,
            _INDEX,
            *_LOCATION,
            *_SIZE,
            _SHA256,
            *SCORE_COLUMNS,
            _field("accepted", pa.bool_(), "whether it may be trained on"),
            _field("rejected_by", REPEATED, "the first check that it failed", nullable=True),
            _field("reason", pa.string(), "why it is rejected", nullable=True),
        ]
    ),
    "quality": pa.schema(
        [
            _field("label_name", REPEATED, "class name; empty: all classes together"),
            _field(
                "metric",
                REPEATED,
                "counts (wanted, planned, accepted, kept, shortfall, rejected_<check>), or a comparison of the kept "
                "images with the real training images: fd, kid (0 is best), precision, recall (k = 3), density, "
                "coverage (k = 5)",
            ),
            _field("value", pa.float64(), "null: too few images for this metric", nullable=True),
            _field("images_real", pa.int64(), "real training images behind the value"),
            _field("images_synthetic", pa.int64(), "kept synthetic images behind the value"),
            _field("features", REPEATED, "network that made the features, and its version", nullable=True),
        ]
    ),
    "balanced": pa.schema(
        [
            _ID,
            *_CELL,
            _field("source", REPEATED, "real or synthetic"),
            _field("weight", pa.float64(), "of the image in the loss"),
            _SHA256,
            *_LOCATION,
        ]
    ),
    "packed": pa.schema(
        [
            _ID,
            *_CELL,
            _field("source", REPEATED, "real or synthetic"),
            _field("weight", pa.float64(), "of the image in the loss"),
            _field("offset", pa.int64(), "where its encoded bytes begin in images.bin beside it"),
            _field("length", pa.int64(), "how many there are"),
        ]
    ),
    "history": pa.schema(
        [
            _field("step", pa.int32(), "optimiser steps done"),
            _field("epoch", pa.float64(), "passes over the training images"),
            _field("loss", pa.float64(), "mean training loss since the row before, nats"),
            _field("learning_rate", pa.float64(), "of the optimiser at this step"),
        ]
    ),
    "predictions": pa.schema(
        [
            _ID,
            _field("split", REPEATED, "test, or what dataset.test_split and validation_split say"),
            *_CELL,
            _field("predicted", pa.int32(), "class of the highest probability"),
            _field("probabilities", pa.list_(pa.float32()), "of all classes, in their order"),
        ]
    ),
    "metrics": pa.schema(
        [
            *_NETWORKS,
            _field("seed", pa.int64(), "training seed"),
            *_FIGURE,
            _field("value", pa.float64(), "0 to 1"),
            _field("low", pa.float64(), "lower end of the 95 % interval over test images (percentile bootstrap)"),
            _field("high", pa.float64(), "upper end of that interval"),
        ]
    ),
    "selection": pa.schema(
        [
            _field("method", REPEATED, "recipe of the config, without what follows its last hyphen"),
            _field("criterion", REPEATED, "figure of the validation images that settings are chosen by"),
            _field("needs", REPEATED, "what of the validation images it needs: class, or class and group"),
            *_NETWORKS,
            _field("validation", pa.float64(), "the figure, 0 to 1, mean over seeds"),
            _field("candidates", pa.int32(), "settings of the method that it was chosen from"),
            _field("seeds", pa.int32(), "number of seeds"),
        ]
    ),
    "differences": pa.schema(
        [
            *_NETWORKS,
            _field("baseline_recipe", REPEATED, "recipe that it is compared with"),
            _field("baseline_stage", REPEATED, "stage of that recipe"),
            *_FIGURE,
            _field("mean", pa.float64(), "over seeds, of the figure minus that of the baseline with the same seed"),
            *_OVER_SEEDS,
            _field("low_images", pa.float64(), "lower end of its 95 % interval over test images, with these networks"),
            _field("high_images", pa.float64(), "upper end of that interval (percentile bootstrap)"),
            _field("seeds", pa.int32(), "number of seeds"),
        ]
    ),
    "summary": pa.schema(
        [
            *_NETWORKS,
            *_FIGURE,
            _field("mean", pa.float64(), "over seeds"),
            *_OVER_SEEDS,
            _field("seeds", pa.int32(), "number of seeds"),
            _field("real_images", pa.int64(), "different real training images"),
            _field("synthetic_images", pa.int64(), "different synthetic training images"),
            _field("train_seconds", pa.float64(), "of one device per network; null: not recorded", nullable=True),
            _field(
                "generation_seconds", pa.float64(), "of one device for all images, once; null: unknown", nullable=True
            ),
        ]
    ),
}

# A study has the same tables, of all its variants.
_VARIANT = _field("variant", REPEATED, "name in the study; the experiment is <study>-<variant>")
SCHEMAS["study"] = SCHEMAS["summary"].insert(0, _VARIANT)
SCHEMAS["study_selection"] = SCHEMAS["selection"].insert(0, _VARIANT)
SCHEMAS["study_differences"] = SCHEMAS["differences"].insert(0, _VARIANT)
