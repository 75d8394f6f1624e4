"""The Arrow schema of every manifest. The metadata of each field describes the column, and is stored in the files."""

import pyarrow as pa

SCHEMA_VERSION = "1"

# An image as Hugging Face `datasets` stores it: encoded bytes and a file name.
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
# Strings that repeat in many rows.
REPEATED = pa.dictionary(pa.int32(), pa.string())


def _field(
    name: str, data_type: pa.DataType, about: str, nullable: bool = False, default: str | None = None
) -> pa.Field:
    """A column. about: its description.

    default: its value in rows that are written without it, and in files of older versions; "" means null if the column
    is nullable.
    """
    metadata = {"about": about} if default is None else {"about": about, "default": default}
    return pa.field(name, data_type, nullable=nullable, metadata=metadata)


_GROUP = _field("group", REPEATED, "values of dataset.group_columns, joined by ', '; empty: no groups", default="")
_CELL = [
    _field("label", pa.int32(), "number of the class: its position in the sorted class names"),
    _field("label_name", REPEATED, "class name"),
    _GROUP,
]
_ATTRIBUTES = _field("attributes", pa.list_(pa.string()), "values of dataset.group_columns, as a list", nullable=True)
_LOCATION = [
    _field("path", REPEATED, "file that holds the image: an image file, or a table", nullable=True),
    _field("row", pa.int64(), "row of the image in the table `path`; null: `path` is an image file", nullable=True),
    _field(
        "column", REPEATED, "column of the images in the table `path`; null: `path` is an image file", nullable=True
    ),
]
_SIZE = [
    _field("width", pa.int32(), "width of the image, pixels", nullable=True),
    _field("height", pa.int32(), "height of the image, pixels", nullable=True),
]
# Everything that determines the pixels of a synthetic image, and nothing else. Its image_id is the hash of these.
PIXEL_COLUMNS = [
    _field("pipeline", REPEATED, "text-to-image, image-to-image or class-conditional"),
    _field("model", REPEATED, "Hugging Face Hub id of the model, or its folder"),
    _field("model_version", REPEATED, "revision of a model of the Hub, hash of the contents of a folder"),
    _field(
        "variant",
        REPEATED,
        "variant of the weights, for example fp16: the word before .safetensors in the names of the files; empty: none",
        default="",
    ),
    _field("adapters", REPEATED, "LoRA and textual-inversion adapters, as JSON; empty: none"),
    _field("scheduler", REPEATED, "diffusers scheduler class, with options as JSON; empty: that of the checkpoint"),
    _field("steps", pa.int32(), "number of denoising steps"),
    _field("guidance", pa.float64(), "guidance scale"),
    _field(
        "strength",
        pa.float64(),
        "image-to-image: share of the noise that is added to the real image, 0 to 1; null: pure noise",
        nullable=True,
    ),
    _field("size", pa.int32(), "side of the square image when it is sampled, pixels"),
    _field(
        "original_size",
        pa.int32(),
        "SDXL: side that it takes the image to have had before scaling, pixels; 0: `size`",
        default="0",
    ),
    _field("stored_size", pa.int32(), "side of the square image when it is stored, pixels"),
    _field("color", REPEATED, "colour mode of the stored image: grey or rgb"),
    _field("format", REPEATED, "file format of the stored image: png, webp or jpeg"),
    _field("dtype", REPEATED, "floating-point type of the model"),
    _field("prompt", REPEATED, "prompt of the image"),
    _field("negative_prompt", REPEATED, "negative prompt; empty: none"),
    _field("seed", pa.int64(), "seed of the random generator of this image"),
    _field(
        "source_image",
        pa.string(),
        "image-to-image: image_id of the real image that it starts from; null: pure noise",
        nullable=True,
    ),
    _field(
        "sampler_version", pa.int32(), "version of the sampling code; raised when a change of the code changes pixels"
    ),
]
_ID = _field(
    "image_id",
    pa.string(),
    "real images: hash of the encoded image; synthetic images: hash of everything that determines the pixels",
)
_SHA256 = _field("sha256", pa.string(), "SHA-256 of the encoded image, hexadecimal")
_INDEX = _field("index", pa.int32(), "number of the image within its cell and fill, in the order of the plan")
_FILL = _field("fill", REPEATED, "name of the fill (one of `fills`); empty: the only one", default="")
_CLASSIFIED = [
    _field(
        "classifier_confidence",
        pa.float32(),
        "probability that the classifier gives to the image's class, 0 to 1",
        nullable=True,
    ),
    _field(
        "classifier_prediction",
        REPEATED,
        "class to which the classifier gives the highest probability; null: none, or a file of an older version",
        nullable=True,
        default="",
    ),
    _field(
        "classifier_entropy",
        pa.float32(),
        "entropy of the probabilities that the classifier gives to all its classes, nats: 0 if it is certain; null: no "
        "classifier, or a file of an older version",
        nullable=True,
        default="",
    ),
]
# Scores of a synthetic image that depend on no other image. Null: not computed, or the image cannot be read.
_OWN_SCORES = [
    _field("contrast", pa.float64(), "standard deviation of the pixels, 0 to 255", nullable=True),
    _field("text_image_score", pa.float32(), "cosine similarity of image and prompt, -1 to 1", nullable=True),
    *_CLASSIFIED,
    _field("safety_score", pa.float32(), "summed probability of the unsafe labels, 0 to 1", nullable=True),
]
# What images are compared by. Null: the image cannot be read; features and extractor: or no network makes features.
_COMPARED_BY = [
    _field("perceptual_hash", pa.uint64(), "pHash of the image, 64 bits", nullable=True),
    _field("features", pa.list_(pa.float32()), "features of the image, by the network `extractor`", nullable=True),
    _field("extractor", REPEATED, "network that computed the features, and its version", nullable=True),
]
_FAULT = _field("fault", pa.string(), "why the image cannot be used; null: it can", nullable=True)
# All scores of a synthetic image.
SCORE_COLUMNS = [
    *_OWN_SCORES,
    *[
        field
        for name, other in (
            ("earlier", "earlier synthetic image of the class"),
            ("train", "real training image"),
            ("test", "test image"),
        )
        for field in (
            _field(
                f"nearest_{name}", pa.string(), f"image_id of the {other} with the most similar features", nullable=True
            ),
            _field(
                f"nearest_{name}_similarity",
                pa.float32(),
                f"cosine similarity of the features of image and nearest_{name}, -1 to 1",
                nullable=True,
            ),
            _field(
                f"hash_nearest_{name}",
                pa.string(),
                f"image_id of the {other} with the nearest perceptual hash",
                nullable=True,
            ),
            _field(
                f"nearest_{name}_distance",
                pa.int32(),
                f"differing bits of the hashes of image and hash_nearest_{name}, 0 to 64",
                nullable=True,
            ),
        )
    ],
]
_NETWORKS = [
    _field("recipe", REPEATED, "name of the recipe in the config"),
    _field("stage", REPEATED, "train: stage 1, the whole network; finetune: stage 2, the last layer re-trained"),
]
_FIGURE = [
    _field(
        "metric",
        REPEATED,
        "accuracy: share of correct predictions; ece: expected calibration error of the top probability (15 bins, "
        "0: best); domain_probe: accuracy of a linear classifier that tells real from synthetic images, which no "
        "network is trained on (0.5: chance); pair_probe, swap_drop: whether a network uses group and source as a "
        "shortcut, see synaug/evaluation/shortcut.py; with groups also tpr, fpr, selection_rate, "
        "demographic_parity_difference and _ratio, equal_opportunity_difference, equalized_odds_difference and _ratio",
    ),
    _field(
        "subset",
        REPEATED,
        "images or classes that the metric covers: all; many, medium, few (the classes of a shot group); for accuracy "
        "also balanced, harmonic_mean, geometric_mean, worst_class (over the accuracies of all classes) and "
        "class:<name>; with groups group:<name>, cell:<class>|<group>, worst_group, worst_cell, and groups:<group "
        "column> (a comparison of the groups)",
    ),
    _field(
        "weighting",
        REPEATED,
        "units with equal weight: images, classes, domains, cells, groups; training: cells, weighted by their "
        "number of training images",
    ),
]
_OVER_SEEDS = [
    _field(
        "low",
        pa.float64(),
        "lower end of the 95 % interval over seeds (Student t, within the range of the metric); null: one seed",
        nullable=True,
    ),
    _field("high", pa.float64(), "upper end of the 95 % interval over seeds; null: one seed", nullable=True),
]

# Null: dataset.faults.find is false, or the image could not be used before faults were looked for.
_FAULTS_OF_REAL = [
    _field(
        "label_quality",
        pa.float32(),
        "probability of the image's class by a classifier that was not trained on the image, 0 to 1; 0: the label is "
        "probably wrong; null: the classifier did not see the class",
        nullable=True,
        default="",
    ),
    _field(
        "suggested_label",
        REPEATED,
        "most probable class of an image whose label is an issue: confident learning takes it for wrong, and "
        "label_quality is below 0.05; null: no issue",
        nullable=True,
        default="",
    ),
    _field(
        "outlier_score",
        pa.float32(),
        "modified z-score, within its class, of the mean cosine distance from the image to the 10 nearest training "
        "images; above 3.5: an outlier",
        nullable=True,
        default="",
    ),
    _field(
        "duplicate_of",
        pa.string(),
        "image_id of an image of the same split that this one is a near-duplicate of; null: none, or this one is the "
        "original",
        nullable=True,
        default="",
    ),
    _field(
        "leak_of",
        pa.string(),
        "image_id of a near-duplicate in the test split, or, of a training image, in the validation split; null: none",
        nullable=True,
        default="",
    ),
]
# Columns that a file lacks if none of its rows has a value in any of them. Such a file has the same bytes as that of a
# version without these columns.
OPTIONAL = {"real": [field.name for field in _FAULTS_OF_REAL]}

SCHEMAS: dict[str, pa.Schema] = {
    "real": pa.schema(
        [
            _ID,
            _field("split", REPEATED, "split of the image, such as train or test"),
            *_CELL,
            _ATTRIBUTES,
            *_LOCATION,
            *_SIZE,
            _SHA256,
            _field("usable", pa.bool_(), "whether the image has a class, and can be read and decoded"),
            _field("reason", pa.string(), "why the image is not usable; null: it is usable", nullable=True),
            *_FAULTS_OF_REAL,
        ]
    ),
    "imbalance": pa.schema(
        [
            _field(
                "kind",
                pa.string(),
                "what the row counts: cell (a class, or a class in a group), with groups also class or group, and "
                "summary (all images)",
            ),
            _field("label", pa.int32(), "number of the class; null: all classes", nullable=True),
            _field("label_name", REPEATED, "class name; null: all classes", nullable=True),
            _field("group", REPEATED, "group; empty: no groups, or all groups", default=""),
            _ATTRIBUTES,
            _field("count", pa.int64(), "number of usable real training images"),
            _field("share", pa.float64(), "count / number of all usable real training images"),
            _field("deficit", pa.int64(), "count of the largest row of this kind minus count"),
            _field("shot", REPEATED, "shot group: many, medium or few", nullable=True),
            _field(
                "imbalance_factor",
                pa.float64(),
                "count of the largest cell / count of the smallest cell that is not empty",
                nullable=True,
            ),
            _field("gini", pa.float64(), "Gini coefficient of the counts of the cells; 0: balanced", nullable=True),
            _field(
                "entropy",
                pa.float64(),
                "entropy of the shares of the cells / log(number of cells); 1: balanced",
                nullable=True,
            ),
            _field(
                "effective_classes",
                pa.float64(),
                "exp(entropy of the shares): number of equal cells with this entropy",
                nullable=True,
            ),
            _field("empty_cells", pa.int32(), "number of cells without a training image", nullable=True),
            _field(
                "mutual_information",
                pa.float64(),
                "mutual information of class and group, nats; 0: independent",
                nullable=True,
            ),
            _field("cramers_v", pa.float64(), "Cramér's V of class and group, 0 to 1", nullable=True),
        ]
    ),
    "plan": pa.schema(
        [
            _ID,
            *_CELL,
            _FILL,
            _INDEX,
            *PIXEL_COLUMNS,
            _field("shard", REPEATED, "shard of the image: the file shards/<shard>.parquet"),
            _field("licence", REPEATED, "licence of the images of the model"),
            _field(
                "truncate",
                pa.bool_(),
                "whether the prompt may have more tokens than the text encoder reads",
                default="false",
            ),
        ]
    ),
    "shard": pa.schema(
        [
            pa.field("image", IMAGE, metadata={"about": "encoded image"}),
            _ID,
            _field("label_name", REPEATED, "class name (the number of a class depends on the experiment)"),
            _GROUP,
            _SHA256,
            *_SIZE,
            *PIXEL_COLUMNS,
            _field("licence", REPEATED, "licence of the images of the model"),
            _field("batch_size", pa.int32(), "number of images that were sampled together"),
            _field("device", REPEATED, "name of the device that sampled the image"),
            _field("threads", pa.int32(), "number of CPU threads that sampled the image"),
            _field("libraries", REPEATED, "versions of torch, diffusers and transformers"),
        ]
    ),
    "shard_scores": pa.schema(
        [
            _ID,
            _field("row", pa.int64(), "row of the image in its shard; null: it is not in the shard", nullable=True),
            *_SIZE,
            _SHA256,
            *_OWN_SCORES,
            *_COMPARED_BY,
            _FAULT,
        ]
    ),
    "real_scores": pa.schema(
        [
            _ID,
            _field("split", REPEATED, "split of the image, such as train or test"),
            *_CELL,
            *_CLASSIFIED,
            *_COMPARED_BY,
        ]
    ),
    "gate": pa.schema(
        [
            *_CELL[:2],
            _FILL,
            _field(
                "agreement",
                pa.float64(),
                "share of the synthetic images that the screening classifier reads as the intended class",
            ),
            _field("images_synthetic", pa.int64(), "number of these images"),
            _field(
                "recall",
                pa.float64(),
                "share of the validation images of the class that it reads as their class; null: there are none",
                nullable=True,
            ),
            _field("images_validation", pa.int64(), "number of these images"),
            _field("pooled_ratio", pa.float64(), "mean agreement of the classes / their mean recall, at most 1"),
            _field(
                "ratio",
                pa.float64(),
                "agreement / recall, at most 1, drawn towards pooled_ratio where there are few images",
            ),
            _field("share", pa.float64(), "share of the fill that the class gets: ratio; 0 if that is below 0.5"),
            _field("reason", pa.string(), "why, in words"),
        ]
    ),
    "scores": pa.schema(
        [
            _ID,
            *_CELL,
            _FILL,
            _INDEX,
            *_LOCATION,
            *_SIZE,
            _SHA256,
            *SCORE_COLUMNS,
            _FAULT,
        ]
    ),
    "features": pa.schema(
        [
            _ID,
            *_CELL,
            _field("source", REPEATED, "real (a training image) or synthetic"),
            _field("features", pa.list_(pa.float32()), "features of the image, by the network `extractor`"),
            _field("extractor", REPEATED, "network that computed the features, and its version"),
        ]
    ),
    "synthetic": pa.schema(
        [
            _ID,
            *_CELL,
            _FILL,
            _INDEX,
            *_LOCATION,
            *_SIZE,
            _SHA256,
            *SCORE_COLUMNS,
            _field("accepted", pa.bool_(), "whether the image may be used for training"),
            _field("rejected_by", REPEATED, "first check that the image failed; null: it is accepted", nullable=True),
            _field("reason", pa.string(), "why the image is rejected; null: it is accepted", nullable=True),
            _field("weight", pa.float64(), "weight of the image in the loss if it is trained on", default="1"),
        ]
    ),
    "quality": pa.schema(
        [
            _field("label_name", REPEATED, "class name; empty: all classes together"),
            _FILL,
            _field(
                "metric",
                REPEATED,
                "a number of images (wanted, planned, accepted, kept, shortfall, rejected_<check>); agreement: share "
                "of the planned images that the screening classifier reads as the intended class; or a comparison of "
                "kept images with real training images, equally many of every class (with groups: of every class in "
                "every group): fd, kid (0: best), precision, recall (k = 3), density, coverage (k = 5)",
            ),
            _field(
                "value",
                pa.float64(),
                "value of the metric; of a comparison the mean over 10 random draws of the images; null: too few "
                "images for it",
                nullable=True,
            ),
            _field(
                "low",
                pa.float64(),
                "2.5 % percentile over the draws; null: not a comparison, or there is only one possible draw",
                nullable=True,
                default="",
            ),
            _field(
                "high", pa.float64(), "97.5 % percentile over the draws; null as for low", nullable=True, default=""
            ),
            _field("images_real", pa.int64(), "real training images that were compared, in each draw; otherwise all"),
            _field(
                "images_synthetic", pa.int64(), "kept synthetic images that were compared, in each draw; otherwise all"
            ),
            _field(
                "features",
                REPEATED,
                "network that computed the features, and its version; null: not a comparison",
                nullable=True,
            ),
        ]
    ),
    "balanced": pa.schema(
        [
            _ID,
            *_CELL,
            _field("source", REPEATED, "real or synthetic"),
            _FILL,
            _field(
                "index",
                pa.int32(),
                "synthetic images: number of the image within its cell and fill, in the order of the plan; null: real",
                nullable=True,
                default="",
            ),
            _field("weight", pa.float64(), "weight of the image in the loss"),
            _SHA256,
            *_LOCATION,
        ]
    ),
    "packed": pa.schema(
        [
            _ID,
            _field("offset", pa.int64(), "offset of the image in the file images.bin of the same folder, bytes"),
            _field("length", pa.int64(), "length of the image, bytes"),
        ]
    ),
    "backbone_features": pa.schema(
        [_ID, _field("features", pa.list_(pa.float32()), "output of the frozen backbone, the input of the last layer")]
    ),
    "history": pa.schema(
        [
            _field("step", pa.int32(), "number of optimiser steps so far"),
            _field("epoch", pa.float64(), "number of passes over the training images so far"),
            _field(
                "loss",
                pa.float64(),
                "mean training loss since the previous row: nats; of an adapter, the squared error",
            ),
            _field("learning_rate", pa.float64(), "learning rate at this step"),
        ]
    ),
    "predictions": pa.schema(
        [
            _ID,
            _field("split", REPEATED, "split of the image: dataset.test_split or dataset.validation_split"),
            *_CELL,
            _field("predicted", pa.int32(), "number of the class with the highest probability"),
            _field(
                "probabilities", pa.list_(pa.float32()), "probability of every class, in the order of their numbers"
            ),
        ]
    ),
    "metrics": pa.schema(
        [
            *_NETWORKS,
            _field("seed", pa.int64(), "seed of the training"),
            *_FIGURE,
            _field("value", pa.float64(), "value of the metric, 0 to 1"),
            _field(
                "low",
                pa.float64(),
                "lower end of the 95 % interval over test images (percentile bootstrap within classes or cells); equal "
                "ends say nothing: all resamples agree, for example in the accuracy of a class with one image",
            ),
            _field("high", pa.float64(), "upper end of the 95 % interval over test images"),
        ]
    ),
    "selection": pa.schema(
        [
            _field("method", REPEATED, "method: name of the recipe without its last hyphen and what follows it"),
            _field("criterion", REPEATED, "metric of the validation images by which the setting is chosen"),
            _field(
                "needs", REPEATED, "labels of the validation images that the criterion needs: class, or class and group"
            ),
            *_NETWORKS,
            _field("validation", pa.float64(), "value of the criterion, 0 to 1, mean over seeds"),
            _field("candidates", pa.int32(), "number of settings of the method that were compared"),
            _field("seeds", pa.int32(), "number of seeds"),
        ]
    ),
    "candidates": pa.schema(
        [
            *_NETWORKS,
            _field(
                "value",
                pa.float64(),
                "accuracy of the validation images (evaluation.choose_by), 0 to 1",
            ),
            _field("seeds", pa.int32(), "number of seeds so far; fewer than others have: it was dropped before"),
            _field("kept", pa.bool_(), "whether the candidate is trained with the next seed"),
        ]
    ),
    "chosen": pa.schema(
        [
            *_NETWORKS,
            _field("synthetic", pa.bool_(), "whether the recipe trains on synthetic images"),
            _field("metric", REPEATED, "accuracy of the validation images that decides (evaluation.choose_by)"),
            _field("validation", pa.float64(), "value of the metric, 0 to 1, mean over seeds"),
            _field("standard_error", pa.float64(), "its standard error over validation images (bootstrap)"),
            _field(
                "gain",
                pa.float64(),
                "value minus that of the best candidate without synthetic images, each over its own seeds",
            ),
            _field("gain_standard_error", pa.float64(), "standard error of the gain over validation images, paired"),
            _field("images", pa.int32(), "number of validation images"),
            _field(
                "seeds",
                pa.int32(),
                "number of seeds; fewer than others have: it was dropped, see candidates",
            ),
            _field("chosen", pa.bool_(), "whether this candidate was chosen"),
            _field("reason", REPEATED, "why, the same text in every row"),
        ]
    ),
    "differences": pa.schema(
        [
            *_NETWORKS,
            _field("baseline_recipe", REPEATED, "recipe to which this recipe is compared"),
            _field("baseline_stage", REPEATED, "stage of the baseline recipe"),
            *_FIGURE,
            _field("mean", pa.float64(), "mean over seeds of the metric minus that of the baseline with the same seed"),
            *_OVER_SEEDS,
            _field(
                "low_images",
                pa.float64(),
                "lower end of the 95 % interval over test images (percentile bootstrap), with these networks",
            ),
            _field("high_images", pa.float64(), "upper end of the 95 % interval over test images"),
            _field("seeds", pa.int32(), "number of seeds"),
        ]
    ),
    "summary": pa.schema(
        [
            *_NETWORKS,
            *_FIGURE,
            _field("mean", pa.float64(), "mean of the metric over seeds"),
            *_OVER_SEEDS,
            _field("seeds", pa.int32(), "number of seeds"),
            _field(
                "varied",
                REPEATED,
                "what differs between the networks of different seeds, which the interval therefore covers: training "
                "seed; with replicates of a study also synthetic images, and generator",
                default="training seed",
            ),
            _field("real_images", pa.int64(), "number of different real training images"),
            _field("synthetic_images", pa.int64(), "number of different synthetic training images"),
            _field(
                "train_seconds",
                pa.float64(),
                "device seconds of the training of one network: the time of its jobs, times their devices; of an "
                "interrupted job only the last attempt counts; null: not recorded",
                nullable=True,
            ),
            _field(
                "generation_seconds",
                pa.float64(),
                "device seconds to generate all images once; copied images count as much as those that were sampled; "
                "null: not recorded",
                nullable=True,
            ),
        ]
    ),
}

# A study has the same tables as an experiment, with the rows of all its variants.
_VARIANT = _field("variant", REPEATED, "name of the variant; its experiment is <study>-<variant>")
SCHEMAS["study"] = SCHEMAS["summary"].insert(0, _VARIANT)
SCHEMAS["study_selection"] = SCHEMAS["selection"].insert(0, _VARIANT)
SCHEMAS["study_differences"] = SCHEMAS["differences"].insert(0, _VARIANT)
