"""The files of a generator and of its adapters, and the version that goes into the ids of their images."""

import json
import re
from pathlib import Path

from synaug.config import Adapter
from synaug.runtime.errors import UserError
from synaug.runtime.files import check_regular_file, file_hash, text_hash

# Prefix of the version of a local model, which is a hash of its files.
_HASH_PREFIX = "sha256:"
# Suffixes of the files that decide what a checkpoint computes.
_MODEL_SUFFIXES = (".json", ".safetensors", ".txt", ".model")


def is_local(version: str) -> bool:
    """Whether `version` (of `model_version` or `adapter_version`) belongs to local files, not to a hub id."""
    return version.startswith(_HASH_PREFIX)


def model_version(model: str, revision: str | None) -> str:
    """Local folder: hash of its contents; hub id: the revision. Raises UserError as `model_files` does."""
    files = model_files(model, revision)
    if not files:
        assert revision is not None  # `model_files` has checked it
        return revision
    contents = [[str(Path(file).relative_to(model)), file_hash(file)] for file in files]
    return _HASH_PREFIX + text_hash(contents)[:24]


def model_files(model: str, revision: str | None) -> list[str]:
    """The files of a local model that decide what it computes, sorted; empty for a hub id.

    Raises UserError for a folder that is no checkpoint, and for a hub id without a revision.
    """
    folder = Path(model)
    if not folder.is_dir():
        if revision is None:
            raise UserError(
                f"generation.model: {model!r} is not a local folder",
                advice="for a model of the hub, add generation.revision (a commit of its page), so that its images can "
                "be reproduced",
            )
        return []
    files = sorted(str(file) for file in folder.rglob("*") if file.suffix in _MODEL_SUFFIXES and not file.is_dir())
    if not (folder / "model_index.json").is_file():
        raise UserError(f"generation.model: {model} has no model_index.json; give a folder in the diffusers layout")
    for file in files:
        check_regular_file(file)
    if not any(file.endswith(".safetensors") for file in files):
        raise UserError(f"generation.model: {model} holds no weights (*.safetensors); copy the checkpoint again")
    return files


def check_variant(model: str, variant: str | None) -> None:
    """Raise UserError if the local folder `model` holds no weights of the variant; a hub id is not checked.

    diffusers takes parts without files of the variant from their other files.
    """
    # model.safetensors: no variant; model.fp16.safetensors and model.fp16-00001-of-00002.safetensors: fp16.
    pattern = re.compile(r"[^.]+(?:\.(.+?))?(?:-\d+-of-\d+)?\.safetensors")
    matches = [pattern.fullmatch(file.name) for file in Path(model).glob("*/*.safetensors")]
    words = {match[1] for match in matches if match}
    if not words or variant in words:
        return
    advice = " or ".join(word or "null" for word in sorted(words, key=lambda word: word or ""))
    wanted = f"of the variant {variant!r}" if variant else "without a variant"
    raise UserError(
        f"generation.variant: {model} holds no weights {wanted}",
        advice=f"set it to {advice}",
    )


def adapters_json(adapters: list[Adapter]) -> str:
    """The column `adapters` of an image's row: JSON with kind, version, file, scale and token of each; none: empty.

    The version is that of `adapter_version`. Raises UserError if an adapter is missing.
    """
    if not adapters:
        return ""
    descriptions = [
        adapter.model_dump(exclude={"revision"}) | {"version": adapter_version(adapter)} for adapter in adapters
    ]
    return json.dumps(descriptions, sort_keys=True)


def without_local_paths(adapters: str) -> str:
    """`adapters` (of `adapters_json`) without the places of local files, which affect no pixel: their hashes do."""
    descriptions = json.loads(adapters or "[]")
    if not any(is_local(description["version"]) for description in descriptions):
        return adapters
    places = {"model": None, "file": None}
    descriptions = [item | places if is_local(item["version"]) else item for item in descriptions]
    return json.dumps(descriptions, sort_keys=True)


def adapter_version(adapter: Adapter) -> str:
    """Local file or folder: hash of its weights; hub id: the revision. Raises UserError as `adapter_files` does."""
    files = adapter_files(adapter)
    if not files:
        assert adapter.revision is not None  # `adapter_files` has checked it
        return adapter.revision
    return _HASH_PREFIX + text_hash([file_hash(file) for file in files])[:24]


def adapter_files(adapter: Adapter) -> list[str]:
    """The weights of a local adapter; empty for a hub id. Raises UserError for a missing or ambiguous file."""
    path = Path(adapter.model)
    check_regular_file(path)
    if path.is_file():
        files = [path] if path.suffix == ".safetensors" else []
    elif path.is_dir():
        named = [path / adapter.file] if adapter.file else sorted(path.glob("*.safetensors"))
        files = [file for file in named if file.exists() and not file.is_dir()]
    elif adapter.revision is None:
        raise UserError(
            f"generation.adapters: {adapter.model!r} is not a local file or folder",
            advice="for an adapter of the hub, add its revision (a commit of its page)",
        )
    else:
        return []
    if len(files) != 1 or files[0].suffix != ".safetensors":
        raise UserError(
            f"generation.adapters: {adapter.model} must hold one *.safetensors file, or `file` must name it "
            f"(found: {', '.join(file.name for file in files) or 'none'})",
            advice="set `file`, or another path",
        )
    check_regular_file(files[0])
    return [str(files[0])]
