"""The files of an exported network that timm loads, and the way back to the network of synaug."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from synaug.networks.classifier import Classifier
from synaug.networks.pretrained import has_fixed_size

_KEY = "synaug_timm"  # of the metadata of model.safetensors
# What timm has to know to load and use the weights. The rest of its description is about the weights of its authors.
_DESCRIBED = {
    *("input_size", "fixed_input_size", "min_input_size", "num_classes", "mean", "std", "interpolation", "crop_pct"),
    *("crop_mode", "pool_size", "first_conv", "classifier", "custom_load"),
}
_TOLERANCE = 1e-3  # largest difference of a logit


def timm_network(network: Classifier) -> nn.Module | None:
    """The network of timm that gives the logits of `network` for normalised images.

    None: the body is no network of timm, or timm cannot build this head.
    """
    card = network.config
    library, _, name = card["backbone"].partition("/")
    if library != "timm" or card.get("head", "linear") != "linear":
        return None
    import timm  # here, because `synaug predict` reads most files without it

    options = {"img_size": card["size"]} if has_fixed_size(name) else {}
    model = timm.create_model(name, num_classes=len(card["classes"]), in_chans=card["channels"], **options).eval()
    classifier = model.get_classifier()
    if not isinstance(classifier, nn.Linear) or classifier.weight.shape != network.head.weight.shape:
        return None
    missing, unexpected = model.load_state_dict(network.body.state_dict(), strict=False)
    if unexpected or set(missing) != {f"{_name_of(classifier, model)}.{part}" for part in ("weight", "bias")}:
        return None
    classifier.load_state_dict(network.head.state_dict())
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, card["channels"], card["size"], card["size"]), generator=rng).float()
    with torch.inference_mode():
        same = torch.allclose(model((images - network.mean) / network.std), network(images), rtol=0, atol=_TOLERANCE)
    return model if same else None


def write_timm(model: nn.Module, network: Classifier, folder: Path) -> None:
    """Write model.safetensors and config.json of `model` (see `timm_network`) to `folder`."""
    from timm.models._hub import save_config_for_hf

    size, channels = network.config["size"], network.config["channels"]
    mean, std = (values.flatten().tolist() for values in (network.mean, network.std))
    about = {"config": network.config, "classifier": _name_of(model.get_classifier(), model), "mean": mean, "std": std}
    weights = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(
        weights,
        folder / "model.safetensors",
        metadata={"format": "pt", _KEY: json.dumps(about, ensure_ascii=False)},
    )
    preprocessing = {
        "input_size": (channels, size, size), "mean": [value / 255 for value in mean],
        "std": [value / 255 for value in std], "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center",
    }  # fmt: skip
    file = folder / "config.json"
    save_config_for_hf(
        model, str(file), model_config={"label_names": network.config["classes"]}, data_config=preprocessing
    )
    config = json.loads(file.read_text(encoding="utf-8"))
    described = config["pretrained_cfg"]
    config["pretrained_cfg"] = {key: value for key, value in described.items() if key in _DESCRIBED}
    file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_from_timm(path: Path) -> Classifier | None:
    """The network of synaug whose files `write_timm` wrote; None if `path` is another file."""
    try:
        with safe_open(path, "pt") as file:
            if _KEY not in (file.metadata() or {}):
                return None
            about = json.loads(file.metadata()[_KEY])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    network = Classifier(**about["config"])
    head = {part: weights.pop(f"{about['classifier']}.{part}") for part in ("weight", "bias")}
    network.head.load_state_dict(head)
    network.body.load_state_dict(weights)
    for name in ("mean", "std"):
        getattr(network, name).copy_(torch.tensor(about[name]).reshape(1, -1, 1, 1))
    return network


def _name_of(part: nn.Module, model: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is part)
