"""Data sets of the Hugging Face hub: the folder of this machine's cache that holds one.

`synaug fetch` downloads them, and jobs do not: their files are inputs of rules, which are there before any job starts.
"""

import re
from pathlib import Path

from synaug.config import Dataset
from synaug.config.dataset import HUB_ID
from synaug.datasets.index import input_files
from synaug.runtime.errors import UserError

PARQUET_COPY = "refs/convert/parquet"  # revision at which the hub keeps a Parquet copy of most data sets
_READ = ("*.parquet", "*.arrow", "*state.json", "*dataset_dict.json")  # by `datasets.huggingface`


def download(dataset: Dataset, local_files_only: bool) -> Path:
    """The folder with the files of `dataset`, which has a revision. What is missing is downloaded.

    local_files_only: forbids that. Raises the exceptions of huggingface_hub, and UserError if these files are no data
    set that can be read.
    """
    folder, _ = cached(dataset, local_files_only)
    named = f"{dataset.path} at {dataset.revision}"
    if not any(file for pattern in _READ[:2] for file in folder.rglob(pattern)):
        raise UserError(
            f"dataset.path: {named} has no Parquet or Arrow files",
            advice=f"set dataset.revision: {PARQUET_COPY}, where the hub keeps a Parquet copy of most data sets, "
            "or convert it on disk",
        )
    try:
        input_files(_at(dataset, folder))
    except UserError as error:  # users know the data set by its id
        problem, advice = (text.replace(str(folder), dataset.path) for text in (error.problem, error.advice))
        raise UserError(problem, advice=advice) from None
    return folder


def on_this_machine(dataset: Dataset, config_file: str) -> tuple[Dataset, str]:
    """`dataset` with the local folder as its path, and where that came from: `<owner>/<name> at <commit>`, or nothing.

    config_file: for the message. Raises UserError if the data set of the hub was not downloaded.
    """
    if dataset.revision is None:
        if dataset.source == "huggingface" and re.fullmatch(HUB_ID, dataset.path) and not Path(dataset.path).exists():
            raise UserError(
                f"dataset.path: there is no folder {dataset.path}",
                advice="for a data set of the hub, add dataset.revision (a commit of its page)",
            )
        return dataset, ""
    if Path(dataset.path).exists():
        raise UserError(
            f"dataset.revision: {dataset.path} is a local folder, and only a data set of the hub has a revision",
            advice="leave dataset.revision out, or rename the folder",
        )
    try:
        from huggingface_hub.errors import CachedRepoTreeNotFoundError
    except ImportError:
        raise UserError(
            "dataset.revision: a data set of the hub needs the package huggingface_hub beside Snakemake",
            advice="pip install huggingface_hub",
        ) from None
    try:
        folder, commit = cached(dataset, True)
    except (OSError, ValueError, CachedRepoTreeNotFoundError):  # ValueError: no id; `synaug fetch` says so
        raise UserError(
            f"dataset.path: {dataset.path} at {dataset.revision} is not on this machine, and jobs do not download it",
            advice=f"run `synaug fetch {config_file}` where there is a network",
        ) from None
    return _at(dataset, folder), f"{dataset.path} at {commit}"


def cached(dataset: Dataset, local_files_only: bool) -> tuple[Path, str]:
    """The folder of `dataset` in the cache, and the commit that its revision stands for.

    What is missing is downloaded; local_files_only: forbids that. Raises the exceptions of huggingface_hub.
    """
    from huggingface_hub import snapshot_download

    owner, name, *below = dataset.path.split("/")
    root = snapshot_download(
        f"{owner}/{name}",
        repo_type="dataset",
        revision=dataset.revision,
        allow_patterns=["/".join([*below, pattern]) for pattern in _READ],
        local_files_only=local_files_only,
    )
    return Path(root, *below), Path(root).name


def _at(dataset: Dataset, folder: Path) -> Dataset:
    return dataset.model_copy(update={"path": str(folder), "revision": None})
