"""LoRA (Hu et al. 2022) on the attention of a transformer: small matrices are trained instead of its weights."""

from torch import nn

from synaug.networks.classifier import Classifier
from synaug.runtime.errors import UserError

_TARGETS = r".*\.attn\.(qkv|proj)"  # the projections of timm's attention


def add_lora(model: Classifier, rank: int) -> None:
    """Freeze the body of `model` and add matrices of this rank to its attention; only these and the head are trained.

    They start at zero effect, and are scaled by alpha / rank = 1. Raises UserError if the body has no attention of
    timm, or if the package peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError("training.lora needs the package peft", advice="pip install 'synaug[lora]'") from None
    if not any(name.endswith(".attn.qkv") for name, _ in model.body.named_modules()):
        raise UserError(f"lora: {model.config['backbone']} has no attention layers of timm", advice="leave lora out")
    model.body.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=_TARGETS), model.body)


def merge_lora(model: Classifier) -> None:
    """Add the trained matrices to the weights, so that the body is an ordinary network again."""
    from peft.tuners.lora import LoraLayer

    layers = [(name, layer) for name, layer in model.body.named_modules() if isinstance(layer, LoraLayer)]
    for name, layer in layers:
        layer.merge()
        parent, _, child = name.rpartition(".")
        base_layer: nn.Module = layer.get_base_layer()
        setattr(model.body.get_submodule(parent), child, base_layer)
    model.requires_grad_(True)
