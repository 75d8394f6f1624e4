"""What a config names that is not on this machine but on the network: models, adapters, weights, the data set."""

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from synaug.config import Config, Dataset
from synaug.datasets import PUBLISHED
from synaug.plan.checkpoints import adapter_files, model_files
from synaug.runtime.disk import space_for
from synaug.runtime.errors import UserError
from synaug.screening.checkpoints import checkpoint_files, screening_network

# Rules whose jobs load a model that makes images.
_GENERATE = {"generate_shard", "preview_images", "generate_probe_images"}
# Before the plan exists, the jobs that follow from it are not known. Those of _FOLLOW will come if jobs of _WAIT do.
_PLAN, _WAIT = {"plan_generation", "plan_pilot"}, {"compare_images", "measure_gate"}
_FOLLOW = {"generate_shard", "score_shard"}


@dataclass(frozen=True)
class Download:
    """One of these things.

    key: of the config. name: the value of the key. revision: of a repository of the Hugging Face hub; None: it has
    none. rules: those whose jobs need it. get: a function that returns where it is, a folder or a file, and downloads
    what is missing. Its argument `local_files_only` forbids that. It raises the exceptions of the libraries.
    """

    key: str
    name: str
    revision: str | None
    rules: set[str]
    get: partial[Path]


def downloads_of(config: Config) -> list[Download]:
    """The downloads that the jobs of an experiment need. Some may be equal but for their key and their rules.

    Raises UserError for a model that is neither a local file or folder nor a hub id with a revision.
    """
    found = []
    fills = [(f"fills.{name}" if name else "generation", fill) for name, fill in config.generation_of_fills.items()]
    models = [(block, fill, _GENERATE) for block, fill in fills]
    if config.adaptation:
        models.append(("generation", config.generation, {"adapt_generator"}))
    for block, fill, rules in models:
        if not config.trains_model(fill.model) and not model_files(fill.model, fill.revision):
            get = partial(_model, fill.model, fill.revision, fill.variant)
            found.append(Download(f"{block}.model", fill.model, fill.revision, rules, get))
    for block, fill in fills:
        for adapter in fill.adapters:
            if not config.trains_adapter(adapter.model) and not adapter_files(adapter):
                get = partial(_adapter, adapter.model, adapter.revision, adapter.kind, adapter.file)
                found.append(Download(f"{block}.adapters", adapter.model, adapter.revision, _GENERATE, get))
    for block in ("text_image", "safety"):
        settings = getattr(config.screening, block)
        if settings and not checkpoint_files(block, settings.model, settings.revision):
            model, revision = settings.model, settings.revision
            get = partial(_transformers_checkpoint, model, revision)
            found.append(Download(f"screening.{block}.model", model, revision, {"score_shard", "score_real"}, get))
    networks = [
        (f"recipes.{name}.stage1.pretrained", recipe.stage1, {"train", "train_final", "extract_features"})
        for name, recipe in config.recipes.items()
    ]
    classifier = config.screening.classifier
    if classifier and not classifier.model and screening_network(config.training):
        networks.append(("training.pretrained", config.training, {"fit_screener"}))
    for key, stage1, rules in networks:
        if stage1.pretrained is True:
            found.append(Download(key, stage1.backbone, None, rules, partial(_weights, stage1.backbone)))
    dataset = config.dataset
    if dataset.revision:
        get = partial(_hub_data_set, dataset)
        found.append(Download("dataset.path", dataset.path, dataset.revision, {"convert_dataset"}, get))
    if dataset.download:
        get = partial(_data_set, dataset)
        found.append(Download("dataset.download", dataset.name or dataset.source, None, {"convert_dataset"}, get))
    return found


def each_once(downloads: Iterable[Download]) -> list[Download]:
    """`downloads` without those that get the same as an earlier one: fills share models, and recipes networks."""
    unique: dict[tuple, Download] = {}
    for download in downloads:
        unique.setdefault((download.get.func, repr(download.get.args)), download)
    return list(unique.values())


def check_downloads(config: Config, rules: Collection[str], config_file: str) -> None:
    """Raise UserError if jobs of the `rules` need a download that is not here, and HF_HUB_OFFLINE=1 forbids it.

    rules: those with jobs to run. config_file: for the message.
    """
    # With target: 1 no image is planned, since every class has a training image. With groups a cell may be empty, and a
    # limit per real image leaves it so.
    balance = config.balance
    no_empty_cell_filled = not config.dataset.group_columns or balance.max_synthetic_per_real is not None
    wants_none = balance.strategy == "fixed" and balance.target == 1 and no_empty_cell_filled
    if _PLAN.intersection(rules) and _WAIT.intersection(rules) and not wants_none:
        rules = {*rules, *_FOLLOW}
    needed = each_once(download for download in downloads_of(config) if download.rules.intersection(rules))
    if not needed:
        return
    try:
        from huggingface_hub import is_offline_mode
        from huggingface_hub.errors import CachedRepoTreeNotFoundError
    except ImportError:  # the environment of Snakemake alone, with --sdm conda: the jobs report it
        return
    if not is_offline_mode():
        return
    missing = []
    for download in needed:
        try:
            download.get(True)
        except (OSError, CachedRepoTreeNotFoundError):
            missing.append(f"{download.key}: {download.name}")
        except Exception:  # faulty files: the job that loads them reports what is wrong
            continue
    if missing:
        raise UserError(
            f"{', '.join(missing)}: not on this machine, and HF_HUB_OFFLINE=1 forbids to download it",
            advice=f"run `HF_HUB_OFFLINE=0 synaug fetch {config_file}` where there is a network",
        )


def _model(model: str, revision: str, variant: str | None, local_files_only: bool) -> Path:
    from synaug.generation.pipelines import download_model

    return download_model(model, revision, variant, local_files_only)


def _adapter(model: str, revision: str, kind: str, file: str | None, local_files_only: bool) -> Path:
    from synaug.generation.pipelines import download_adapter

    return download_adapter(model, revision, kind, file, local_files_only)


def _transformers_checkpoint(model: str, revision: str, local_files_only: bool) -> Path:
    """What `screening.scorers.load_checkpoint` reads: the weights as safetensors, the settings, the tokenizer."""
    from huggingface_hub import snapshot_download

    weights = ["model.safetensors", "model-*.safetensors"]
    # `*` also stands for slashes: files in folders are those of other libraries.
    folder = Path(
        snapshot_download(
            model,
            revision=revision,
            allow_patterns=[*weights, "*.json", "*.txt", "*.model", "*.jinja"],
            ignore_patterns=["*/*"],
            local_files_only=local_files_only,
        )
    )
    if not any(file for pattern in weights for file in folder.glob(pattern)):
        raise FileNotFoundError("it has no model.safetensors")
    return folder


def _weights(backbone: str, local_files_only: bool) -> Path:
    """The weights of a network of timm or torchvision, as `networks.pretrained` loads them."""
    library, _, name = backbone.partition("/")
    if library == "torchvision":
        from torchvision.models import get_model_weights

        return _file_of_torch(get_model_weights(name).DEFAULT.url, local_files_only, check_hash=True)
    import timm
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError
    from timm.models._builder import _resolve_pretrained_source
    from timm.models._hub import HF_WEIGHTS_NAME, _get_safe_alternatives, hf_split

    known = timm.get_pretrained_cfg(name)
    kind, place = _resolve_pretrained_source(known.to_dict()) if known else ("", "")
    if kind == "url":
        return _file_of_torch(place, local_files_only, check_hash=False)
    if kind != "hf-hub":
        raise FileNotFoundError("timm has no weights of this network")
    place, file = (place, HF_WEIGHTS_NAME) if isinstance(place, str) else place
    model, revision = hf_split(place)
    for safe_file in _get_safe_alternatives(file):
        try:
            return Path(hf_hub_download(model, safe_file, revision=revision, local_files_only=local_files_only))
        except EntryNotFoundError:
            continue
    return Path(hf_hub_download(model, file, revision=revision, local_files_only=local_files_only))


def _file_of_torch(url: str, local_files_only: bool, check_hash: bool) -> Path:
    """The file that `torch.hub.load_state_dict_from_url` loads."""
    from torch.hub import HASH_REGEX, download_url_to_file, get_dir

    file = Path(get_dir(), "checkpoints", os.path.basename(url))
    if not file.is_file():
        if local_files_only:
            raise FileNotFoundError(f"there is no {file}")
        file.parent.mkdir(parents=True, exist_ok=True)
        known = HASH_REGEX.search(file.name) if check_hash else None
        with space_for(file):
            download_url_to_file(url, str(file), known[1] if known else None, progress=False)
    return file


def _data_set(dataset: Dataset, local_files_only: bool) -> Path:
    from synaug.datasets import published, torchvision_set

    if local_files_only:
        dataset = dataset.model_copy(update={"download": False})
    try:
        if dataset.source not in PUBLISHED:
            torchvision_set.download(dataset)
        elif local_files_only:
            published.files(dataset)
        else:
            published.download(dataset)
    except UserError as error:
        if local_files_only:
            raise FileNotFoundError(error.problem) from error
        raise
    return Path(dataset.path)


def _hub_data_set(dataset: Dataset, local_files_only: bool) -> Path:
    from synaug.datasets import hub

    return hub.download(dataset, local_files_only)
