"""CIFAR-10 and CIFAR-100 in their authors' files ("python version": pickles of flattened images and labels)."""

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from synaug.runtime.errors import UserError


class _Layout(NamedTuple):
    folder: str
    parts: dict[str, list[str]]  # part -> its files
    class_file: str
    labels_key: bytes
    classes_key: bytes  # of the class names in `class_file`


_LAYOUTS = {
    "cifar10": _Layout(
        "cifar-10-batches-py",
        {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]},
        "batches.meta",
        b"labels",
        b"label_names",
    ),
    "cifar100": _Layout(
        "cifar-100-python", {"train": ["train"], "test": ["test"]}, "meta", b"fine_labels", b"fine_label_names"
    ),
}
# All names in the published pickles. The first is numpy's function that creates an empty array, under its old name.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _Unpickler(pickle.Unpickler):
    """Creates only arrays, lists, dicts, numbers and bytes: a pickle may name any function, which would be called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which the published files do not")
        return _ALLOWED[module, name]


def files(root: Path, name: str) -> list[Path]:
    """Paths of the files of data set `name` (cifar10, cifar100) below `root`. They need not exist."""
    layout = _LAYOUTS[name]
    return [root / layout.folder / file for file in [*layout.parts["train"], *layout.parts["test"], layout.class_file]]


def read(root: Path, name: str, part: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (uint8, N x 32 x 32 x 3), labels (int64, N) and class names of `part` (train or test), as stored.

    Raises UserError if a file is missing or damaged.
    """
    layout = _LAYOUTS[name]
    folder = root / layout.folder
    classes = _load(folder / layout.class_file, layout.classes_key)[layout.classes_key]
    names = [class_name.decode() for class_name in classes]
    images, labels = [], []
    for path in (folder / file for file in layout.parts[part]):
        batch = _load(path, b"data", layout.labels_key)
        data, batch_labels = batch[b"data"], batch[layout.labels_key]
        if not isinstance(batch_labels, list) or not all(label in range(len(names)) for label in batch_labels):
            raise UserError(f"{path}: its labels are not all 0 to {len(names) - 1}; download it again")
        if np.shape(data) != (len(batch_labels), 3072) or data.dtype != np.uint8:
            raise UserError(f"{path}: its images are not {len(batch_labels)} rows of 3,072 bytes; download it again")
        images.append(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))  # stored channel by channel
        labels += batch_labels
    return np.concatenate(images), np.array(labels, np.int64), names


def _load(path: Path, *keys: bytes) -> dict:
    try:
        with path.open("rb") as file:
            # Python 2 wrote the files: its strings are bytes.
            content = _Unpickler(file, encoding="bytes").load()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror})", advice="change its permissions, or download it again"
        ) from None
    except Exception as error:  # a damaged pickle can raise nearly any exception
        raise UserError(f"{path}: is not a CIFAR file ({error}); download it again") from None
    missing = [str(key) for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise UserError(f"{path}: has no {', '.join(missing)}; download it again")
    return content
