"""Which folder a trained generator or adapter may be written to: training replaces what is in it."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from synaug.runtime.errors import UserError
from synaug.runtime.files import is_temporary

# The parts of a model as `train_generator` writes them: one folder each.
_PARTS = {"scheduler", "text_encoder", "tokenizer", "unet", "vae"}
_PART_SUFFIXES = {".json", ".safetensors", ".txt"}
# A model card may have been written by hand: `train_generator` keeps it.
MODEL_CARD = "README.md"
# Settings of the autoencoder that `architecture.build_autoencoder` has always used. Published Stable Diffusion models
# have another scaling factor and attention in the middle block.
_AUTOENCODER = {"_class_name": "AutoencoderKL", "scaling_factor": 1.0, "mid_block_add_attention": False}

# What `adapt_generator` writes, and the metadata by which its weights are recognised.
ADAPTER_WEIGHTS, ADAPTER_HISTORY, ADAPTER_SAMPLES = "pytorch_lora_weights.safetensors", "history.parquet", "samples.png"
ADAPTER_MARK = {"synaug": "adapt_generator"}


def check_output_folder(output: str | os.PathLike, protected: Iterable[str | os.PathLike] = ()) -> None:
    """Raise UserError unless a trained generator may be written to the folder `output`.

    It may if the folder does not exist, is empty, or holds nothing but a model that `train_generator` wrote and a
    README.md. The model is recognised by its files, with or without model_index.json: Snakemake deletes the declared
    output of a job before the job starts.
    protected: paths that must not be replaced: `output` may neither be nor contain one of them. The working directory
    and the code of this package are always protected. Symbolic links are resolved.
    """
    _check_folder("generator.output", "train_generator", output, protected, _unexpected_file)
    if os.path.ismount(output):  # it is replaced by renaming a new folder
        raise UserError(
            f"generator.output: {output} is a mount point, which cannot be replaced; name a new folder inside it"
        )


def check_adapter_folder(output: str | os.PathLike, protected: Iterable[str | os.PathLike] = ()) -> None:
    """Raise UserError unless a trained adapter may be written to the folder `output`.

    It may if the folder does not exist, is empty, or holds nothing but what `adapt_generator` wrote and a README.md.
    Weights of other trainings, such as diffusers' scripts, have the same name: a mark in the metadata tells them apart.
    protected: as for `check_output_folder`.
    """
    _check_folder("adaptation.output", "adapt_generator", output, protected, _unexpected_adapter_file)


def check_no_storage(trains_generator: bool, trains_adapter: bool) -> None:
    """Raise UserError if the workflow would train a generator or an adapter although its results go to a storage.

    A storage gets the declared outputs of a rule, and a job gets copies of its declared inputs. The folder of a model
    has other files, and the jobs open models and adapters at the path in the config.
    """
    for wanted, block, rule in (
        (trains_generator, "generator", "train_generator"),
        (trains_adapter, "adaptation", "adapt_generator"),
    ):
        if wanted:
            raise UserError(
                f"{block}: {rule} writes to a folder of this machine, which is not sent to a storage",
                advice=f"run `snakemake --cores all {rule}` without a storage, then remove the block {block}",
            )


def check_start_folder(start: str | None) -> None:
    """Raise UserError unless `start` is the folder of a checkpoint, or None."""
    if start and not Path(start, "model_index.json").is_file():
        raise UserError(
            f"generator.start: {start} has no model_index.json; name a folder that train_generator wrote, or leave the "
            "key out"
        )


def _check_folder(
    key: str,
    rule: str,
    output: str | os.PathLike,
    protected: Iterable[str | os.PathLike],
    unexpected_file: Callable[[Path], str | None],
) -> None:
    folder = Path(os.path.realpath(output))
    for path in [*protected, Path.cwd(), __file__]:
        if Path(os.path.realpath(path)).is_relative_to(folder):
            raise UserError(f"{key}: {output} is or contains {path}, and training would replace it; name a new folder")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{key}: {output} is a file; name a new folder")
    try:
        unexpected = unexpected_file(folder)
    except OSError as error:
        raise UserError(f"{key}: {output} cannot be read ({error.strerror}); name a new folder") from error
    if unexpected:
        raise UserError(
            f"{key}: {output} holds {unexpected}, which {rule} did not write, and training would delete it; name a new "
            "or an empty folder"
        )


def _unexpected_file(folder: Path) -> str | None:
    """A file or folder in `folder` that is not part of a model that `train_generator` wrote; None: there is none."""
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        path = folder / name
        if name in _PARTS and path.is_dir() and not path.is_symlink():
            for file in sorted(path.iterdir()):
                if file.suffix not in _PART_SUFFIXES or not file.is_file():
                    return f"{name}/{file.name}"
        elif name not in ("model_index.json", MODEL_CARD) or not path.is_file():
            return name
    if names and not (_PARTS.issubset(names) and _is_our_autoencoder(folder / "vae")):
        return names[0]
    return None


def _unexpected_adapter_file(folder: Path) -> str | None:
    """A file or folder in `folder` that `adapt_generator` did not write; None: there is none."""
    ours = (ADAPTER_WEIGHTS, ADAPTER_HISTORY, ADAPTER_SAMPLES)
    for path in sorted(folder.iterdir()):
        if is_temporary(path.name, ours):  # of a training that was killed
            continue
        if path.name not in (*ours, MODEL_CARD) or not path.is_file():
            return path.name
        if path.name == ADAPTER_WEIGHTS and not _has_our_mark(path):
            return path.name
    return None


def _has_our_mark(weights: Path) -> bool:
    # A safetensors file begins with the length of its header (8 bytes), and the header (JSON).
    with weights.open("rb") as file:
        try:
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), 100_000_000)))
            return ADAPTER_MARK.items() <= header["__metadata__"].items()
        except (ValueError, KeyError, AttributeError, TypeError):
            return False


def _is_our_autoencoder(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text())
        return _AUTOENCODER.items() <= config.items()
    except (OSError, ValueError, AttributeError):
        return False
