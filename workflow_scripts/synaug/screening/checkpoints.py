"""Which files the models of the screening are, and the name that their features are known by. No torch."""

from pathlib import Path

from synaug.config import Screening
from synaug.runtime.errors import UserError
from synaug.runtime.files import file_hash, text_hash

# File endings that decide what a checkpoint of transformers computes.
_ENDINGS = (".json", ".safetensors", ".txt", ".model")
WEIGHTS = "model.safetensors"


def screening_files(screening: Screening) -> list[str]:
    """The files of all local models that the screening takes from the user, sorted by model; none of the hub's.

    Raises UserError for a model that is not there, and for a hub id without a revision.
    """
    files = []
    if screening.classifier and screening.classifier.model:
        files.append(classifier_file(screening.classifier.model))
    for key in ("text_image", "safety"):
        if block := getattr(screening, key):
            files += checkpoint_files(key, block.model, block.revision)
    return files


def classifier_file(model: str) -> str:
    """Path of the weights that `screening.classifier.model` names: a file, or the folder it lies in."""
    path = Path(model, WEIGHTS) if Path(model).is_dir() else Path(model)
    if not path.is_file():
        raise UserError(
            f"screening.classifier.model: no file {path}; give the {WEIGHTS} of a network that another experiment "
            "trained (results/<experiment>/train/<recipe>/<seed>/), or null to have one trained"
        )
    return str(path)


def checkpoint_files(key: str, model: str, revision: str | None) -> list[str]:
    """The files of the checkpoint `screening.<key>` if it is a local folder, sorted; of a hub id: none."""
    folder = Path(model)
    if not folder.is_dir():
        if revision is None:
            raise UserError(
                f"screening.{key}.model: {model!r} is no folder here, and for a hub model screening.{key}.revision (a "
                "commit of its page) is needed, or its scores could not be computed again"
            )
        return []
    files = sorted(str(file) for file in folder.iterdir() if file.suffix in _ENDINGS)
    if not (folder / "config.json").is_file():
        raise UserError(f"screening.{key}.model: {model} has no config.json; give a checkpoint of transformers")
    if not any(file.endswith(".safetensors") for file in files):
        raise UserError(f"screening.{key}.model: {model} holds no weights as *.safetensors; convert or copy them again")
    return files


def extractor_name(screening: Screening, classifier: str | None) -> str:
    """Name of the feature space: which network, and its version (a local one: hash of its files; hub: id, revision).

    classifier: file of the classifier's weights, if it makes the features.
    """
    if screening.feature_space == "classifier":
        return f"classifier sha256:{file_hash(classifier)[:24]}"
    block = screening.text_image
    files = checkpoint_files("text_image", block.model, block.revision)
    if not files:
        return f"text_image {block.model}@{block.revision}"
    return f"text_image sha256:{text_hash([[Path(file).name, file_hash(file)] for file in files])[:24]}"
