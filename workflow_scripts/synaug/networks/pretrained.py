"""Backbones of torchvision and timm by name, with random or pretrained weights."""

import os
from difflib import get_close_matches

import torch
from safetensors.torch import load_file
from torch import nn

from synaug.networks.embedded import embedded_weights
from synaug.runtime.errors import UserError
from synaug.runtime.files import check_regular_file


def check_backbone(backbone: str) -> None:
    """Raise UserError if the library has no classifier of this name. backbone: torchvision/<name> or timm/<name>."""
    library, _, name = backbone.partition("/")
    if library == "torchvision":
        from torchvision import models

        known = models.list_models(module=models)
    else:
        import timm

        # A name may end in the tag of its weights: resnet50.a1_in1k.
        known = timm.list_models() + (timm.list_pretrained() if "." in name else [])
    if name not in known:
        similar = ", ".join(f"{library}/{match}" for match in get_close_matches(name, known))
        hint = f"similar names: {similar}" if similar else f"the documentation of {library} has a list"
        raise UserError(f"backbone: {library} has no model {name!r}", advice=hint)


def build_body(backbone: str, channels: int, size: int) -> tuple[nn.Module, int]:
    """The network without its last layer, and its number of features.

    For grey images, torchvision's networks get the same channel three times; timm adapts the first layer. Raises
    UserError for an unknown name, and for a network that cannot take images of `size` pixels.
    """
    check_backbone(backbone)
    library, _, name = backbone.partition("/")
    try:
        body = _build_timm(name, channels, size) if library == "timm" else _build_torchvision(name, channels, size)
        with torch.no_grad():
            features = body.eval()(torch.zeros(1, channels, size, size))
        body.train()
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(
            f"backbone: {backbone} cannot take images of {size} pixels ({_reason(error)})",
            advice="change dataset.image_size, or choose another backbone",
        ) from None
    return body, features.shape[1]


def load_pretrained_body(
    body: nn.Module, backbone: str, channels: int, size: int, weights: bool | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Load weights into `body` (of `build_body`): those of the library (True), the embedded ones, or those of a file.

    weights: True, "embedded", or the path of a safetensors file.

    Returns the mean and standard deviation (1 x C x 1 x 1, of pixels from 0 to 255) that they expect. Raises UserError.
    """
    library, _, name = backbone.partition("/")
    if weights == "embedded":
        weights = str(embedded_weights())
    if weights is not True:
        check_regular_file(weights)
        if not os.path.isfile(weights):
            raise UserError(
                f"pretrained: {weights} does not exist", advice=f"give a safetensors file of {backbone}, or true"
            )
    try:
        if library == "timm":
            mean, std = _load_timm(body, name, channels, size, weights)
        else:
            mean, std = _load_torchvision(body[-1], name, weights)
    except Exception as error:  # no connection, weights of another network, a damaged file
        reason = _reason(error)[:200]
        if weights is not True:
            raise UserError(
                f"pretrained: the weights of {backbone} do not fit ({reason})", advice=f"give weights of {backbone}"
            ) from None
        if isinstance(error, RuntimeError) and "state_dict" in str(error):  # `load_state_dict`
            raise UserError(
                f"pretrained: the weights of {backbone} do not fit images of {size} pixels ({reason})",
                advice="change dataset.image_size, or choose another backbone",
            ) from None
        raise UserError(
            f"pretrained: the weights of {backbone} cannot be downloaded ({reason})",
            advice="offline, give a safetensors file",
        ) from None
    if channels == 1:
        mean, std = [sum(mean) / 3], [sum(std) / 3]
    mean, std = (255 * torch.tensor(values).reshape(1, -1, 1, 1) for values in (mean, std))
    return mean, std


def _reason(error: Exception) -> str:
    """The first line of an error, or what follows its colon."""
    lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
    return lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0]


class _GreyToRGB(nn.Module):
    """The same channel three times."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x 1 x H x W to N x 3 x H x W."""
        return x.expand(-1, 3, -1, -1)


def has_fixed_size(name: str) -> bool:
    """Whether this network of timm has to be built for the size of its images."""
    import timm

    known = timm.get_pretrained_cfg(name)  # None: timm has no settings of it
    return known is not None and known.fixed_input_size


def _build_timm(name: str, channels: int, size: int, **pretrained) -> nn.Module:
    import timm

    options = {"img_size": size} if has_fixed_size(name) else {}
    return timm.create_model(name, num_classes=0, in_chans=channels, **options, **pretrained)


def _load_timm(body: nn.Module, name: str, channels: int, size: int, weights: bool | str) -> tuple:
    options = {} if weights is True else {"pretrained_cfg_overlay": {"file": str(weights)}}
    pretrained = _build_timm(name, channels, size, pretrained=True, **options)
    body.load_state_dict(pretrained.state_dict())
    return pretrained.pretrained_cfg["mean"], pretrained.pretrained_cfg["std"]


def _build_torchvision(name: str, channels: int, size: int) -> nn.Module:
    from torchvision.models import get_model

    options = {"image_size": size} if name.startswith("vit_") else {}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    model = get_model(name, weights=None, **options)
    linear_layers = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear_layers:
        raise ValueError("its last layer is not linear")
    parent, _, child = linear_layers[-1].rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Identity())
    return nn.Sequential(_GreyToRGB() if channels == 1 else nn.Identity(), model)


def _load_torchvision(model: nn.Module, name: str, weights: bool | str) -> tuple:
    from torchvision.models import get_model_weights

    default = get_model_weights(name).DEFAULT
    state = default.get_state_dict(check_hash=True) if weights is True else load_file(weights)
    # The last layer of the file is left out; everything else must be there.
    model.load_state_dict({key: value for key, value in state.items() if key in model.state_dict()})
    if hasattr(model, "transform_input"):  # googlenet and inception_v3 were trained on pixels from -1 to 1
        return [0.5] * 3, [0.5] * 3
    transform = default.transforms()
    return transform.mean, transform.std
