"""A CLIP checkpoint with random weights, saved like any other."""

from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from synaug.generator.architecture import build_tokenizer


def save_clip(folder: Path, texts: Iterable[str]) -> Path:
    """Save a small CLIP that knows the words of `texts` to `folder`."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(list(texts))
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = small | {"vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    vision = small | {"image_size": 16, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    CLIPProcessor(CLIPImageProcessor(**size), tokenizer).save_pretrained(folder)
    return folder
