"""The files of the screening models, and the name of their feature space. It does not import torch."""

from pathlib import Path

from synaug.config import Screening, Stage1
from synaug.images.codec import LARGE
from synaug.runtime.errors import UserError
from synaug.runtime.files import check_regular_file, file_hash, text_hash

# Endings of the files that decide what a transformers checkpoint computes.
_ENDINGS = (".json", ".safetensors", ".txt", ".model")
WEIGHTS = "model.safetensors"


def local_model_files(screening: Screening) -> list[str]:
    """The files of all models in `screening` that are local files or folders; models of the hub have none.

    Raises UserError for a model that does not exist, and for a hub id without a revision.
    """
    files = []
    if screening.classifier and screening.classifier.model:
        files.append(classifier_file(screening.classifier.model))
    for block in ("text_image", "safety"):
        if settings := getattr(screening, block):
            files += checkpoint_files(block, settings.model, settings.revision)
    return files


def screening_network(training: Stage1) -> dict | None:
    """The keys of the screening classifier's network: the pretrained one of the block `training`.

    Only its last layer is trained, however much of it the recipes train. None: the block has no pretrained weights, and
    the screening classifier is a small network that is trained from scratch.
    """
    if not training.pretrained:
        return None
    return training.model_dump(include={"backbone", "pretrained", "freeze"}) | {"freeze": "backbone"}


def screening_augmentation(training: Stage1) -> dict:
    """shift and flip of the block `training` for the small screening classifier, where they differ from the defaults.

    With the defaults, experiments of earlier versions keep their settings. A pretrained one is trained on features,
    which have no augmentation.
    """
    if screening_network(training):
        return {}
    return training.model_dump(include={"shift", "flip"}, exclude_defaults=True)


def screens_with_little_memory(screening: Screening, training: Stage1, image_size: int) -> bool:
    """Whether 4 GB of GPU memory are enough to train the screening classifier and to score images.

    image_size: pixels.

    True if the only network is a small one that is trained here, and images have at most LARGE pixels. training: the
    block `training` of the config.
    """
    models = [screening.text_image, screening.safety, screening.classifier and screening.classifier.model]
    return not any(models) and screening_network(training) is None and image_size <= LARGE


def classifier_file(model: str) -> str:
    """Path of the weights. model: `screening.classifier.model`, this file or its folder."""
    path = Path(model, WEIGHTS) if Path(model).is_dir() else Path(model)
    check_regular_file(path)
    if not path.is_file():
        raise UserError(
            f"screening.classifier.model: no file {path}",
            advice=f"give the {WEIGHTS} of a network of another experiment "
            "(results/<experiment>/train/<recipe>/<seed>/), or null to train one",
        )
    return str(path)


def checkpoint_files(block: str, model: str, revision: str | None) -> list[str]:
    """The files of a checkpoint, sorted, if `model` is a local folder; none if it is a hub id.

    block: name of the config block, for messages. Raises UserError as `local_model_files`.
    """
    folder = Path(model)
    if not folder.is_dir():
        if revision is None:
            raise UserError(
                f"screening.{block}.model: there is no folder {model!r}",
                advice=f"for a model of the hub, give screening.{block}.revision (a commit), so that its scores can be "
                "reproduced",
            )
        return []
    files = sorted(str(file) for file in folder.iterdir() if file.suffix in _ENDINGS)
    if not (folder / "config.json").is_file():
        problem = f"screening.{block}.model: {model} has no config.json"
        raise UserError(problem, advice="give a transformers checkpoint")
    for file in files:
        check_regular_file(file)
    if not any(file.endswith(".safetensors") for file in files):
        problem = f"screening.{block}.model: {model} has no *.safetensors"
        raise UserError(problem, advice="convert or copy its weights again")
    return files


def extractor_name(screening: Screening, classifier: str | None) -> str:
    """Name and version of the network that computes the features: hash of its files, or hub id and revision.

    classifier: file of its weights, if the features are those of the screening classifier.
    """
    if screening.feature_space == "classifier":
        return f"classifier sha256:{file_hash(classifier)[:24]}"
    settings = screening.text_image
    files = checkpoint_files("text_image", settings.model, settings.revision)
    if not files:
        return f"text_image {settings.model}@{settings.revision}"
    return f"text_image sha256:{text_hash([[Path(file).name, file_hash(file)] for file in files])[:24]}"
