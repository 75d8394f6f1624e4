"""Which files a checkpoint and its adapters are, and the version that their images are known by."""

import json
from pathlib import Path

from synaug.config import Adapter
from synaug.runtime.errors import UserError
from synaug.runtime.files import file_hash, text_hash

# Begins the version of a local model, which is a hash.
CONTENTS = "sha256:"
# File endings that decide what a checkpoint computes.
_MODEL_FILES = (".json", ".safetensors", ".txt", ".model")


def model_version(model: str, revision: str | None) -> str:
    """Local folder: hash of its contents; hub id: the revision. Raises UserError as `model_files` does."""
    files = model_files(model, revision)
    if not files:
        assert revision is not None  # or model_files had refused it
        return revision
    contents = [[str(Path(file).relative_to(model)), file_hash(file)] for file in files]
    return CONTENTS + text_hash(contents)[:24]


def model_files(model: str, revision: str | None) -> list[str]:
    """The files of a local model that decide what it computes, sorted; of a hub id: none.

    Raises UserError for a folder that is no checkpoint, and for a hub id without a revision.
    """
    folder = Path(model)
    if not folder.is_dir():
        if revision is None:
            raise UserError(
                f"generation.model: {model!r} is no folder here, and for a hub model generation.revision (a commit of "
                "its page) is needed, or its images could not be made again"
            )
        return []
    files = sorted(str(file) for file in folder.rglob("*") if file.suffix in _MODEL_FILES)
    if not (folder / "model_index.json").is_file():
        raise UserError(f"generation.model: {model} has no model_index.json; give a folder in the diffusers layout")
    if not any(file.endswith(".safetensors") for file in files):
        raise UserError(f"generation.model: {model} holds no weights (*.safetensors); copy the checkpoint again")
    return files


def adapters_text(adapters: list[Adapter]) -> str:
    """What an image's row says of its adapters: JSON with their kind, version, file, scale and token; none: empty.

    The version is that of `model_version`. Raises UserError if an adapter is not to be found.
    """
    if not adapters:
        return ""
    return json.dumps(
        [one.model_dump(exclude={"revision"}) | {"version": adapter_version(one)} for one in adapters], sort_keys=True
    )


def adapter_version(adapter: Adapter) -> str:
    """Local file or folder: hash of its safetensors; hub id: the revision. Raises UserError if there is neither."""
    files = adapter_files(adapter)
    if not files:
        assert adapter.revision is not None  # or adapter_files had refused it
        return adapter.revision
    return CONTENTS + text_hash([file_hash(file) for file in files])[:24]


def adapter_files(adapter: Adapter) -> list[str]:
    """The weights of a local adapter; of one on the hub: none. Raises UserError for a missing one."""
    path = Path(adapter.model)
    if path.is_file():
        files = [path] if path.suffix == ".safetensors" else []
    elif path.is_dir():
        files = sorted(path.glob(adapter.file or "*.safetensors"))
    elif adapter.revision is None:
        raise UserError(
            f"generation.adapters: {adapter.model!r} is no file or folder here, and for one on the hub its revision "
            "(a commit of its page) is needed"
        )
    else:
        return []
    if len(files) != 1 or files[0].suffix != ".safetensors":
        raise UserError(
            f"generation.adapters: {adapter.model} must hold one *.safetensors file, or `file` must name it "
            f"(found: {', '.join(file.name for file in files) or 'none'})"
        )
    return [str(files[0])]
