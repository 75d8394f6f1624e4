"""Start a generator from a checkpoint of the same architecture instead of from noise."""

import json
import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers import AddedToken
from transformers import CLIPTextModel, CLIPTokenizer

from synaug.generator.architecture import MAX_MERGES, build_text_encoder, fit_length
from synaug.runtime.errors import UserError, short_text


def copy_weights(part: AutoencoderKL | UNet2DConditionModel, start: Path, subfolder: str) -> None:
    """Give `part` the weights of the part `subfolder` of the checkpoint `start`.

    Raises UserError unless both have the same architecture.
    """
    loaded = _load(type(part), start, subfolder)
    mine, theirs = (_public(config) for config in (part.config, loaded.config))
    for key in sorted(mine.keys() | theirs.keys()):
        if mine.get(key) != theirs.get(key):
            raise UserError(
                f"generator.start: {start}: its {subfolder} has {key} {theirs.get(key)}, and this generator has "
                f"{mine.get(key)}; name a checkpoint that train_generator wrote with the same size and color"
            )
    part.load_state_dict(loaded.state_dict())


def load_text_encoder(start: Path, captions: list[str]) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """The tokenizer and the text encoder of the checkpoint `start`, extended by the words of `captions`.

    A word that takes several tokens gets a token of its own, which starts as the mean of these. Longer captions get
    more positions, which start as the last position. Raises UserError if `start` has another architecture.
    """
    tokenizer, old = _load(CLIPTokenizer, start, "tokenizer"), _load(CLIPTextModel, start, "text_encoder")
    words = dict.fromkeys(re.findall(r"[^\W\d_]+", " ".join(captions).lower()))
    pieces = {word: tokenizer(word, add_special_tokens=False).input_ids for word in words}
    new = [word for word, ids in pieces.items() if len(ids) > 1][:MAX_MERGES]
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in new])
    fit_length(tokenizer, captions, at_least=tokenizer.model_max_length)
    text_encoder = build_text_encoder(tokenizer, old.config.hidden_size, old.config.num_hidden_layers)
    weights = old.state_dict()
    for name, rows in text_encoder.state_dict().items():
        if name.endswith("token_embedding.weight") and name in weights:
            means = [weights[name][pieces[word]].mean(0) for word in new]
            weights[name] = torch.stack([*weights[name], *means])
        elif name.endswith("position_embedding.weight") and name in weights:
            weights[name] = torch.cat([weights[name], weights[name][-1:].expand(len(rows) - len(weights[name]), -1)])
    try:
        text_encoder.load_state_dict(weights)
    except RuntimeError:
        raise UserError(
            f"generator.start: {start}: its text encoder has another architecture; name a checkpoint that "
            "train_generator wrote"
        ) from None
    return tokenizer, text_encoder


def _load(part_class: type, start: Path, subfolder: str):
    try:
        # In float32: checkpoints are saved at half precision.
        kind = {} if part_class is CLIPTokenizer else {"dtype": torch.float32}
        return part_class.from_pretrained(start / subfolder, local_files_only=True, **kind)
    except Exception as error:  # the loaders raise many types of exceptions
        raise UserError(
            f"generator.start: {start}/{subfolder} cannot be loaded ({short_text(error)})",
            advice="name a checkpoint that train_generator wrote",
        ) from error


def _public(config) -> dict:
    """The settings of a diffusers config, as JSON reads them, without its private entries."""
    return {key: json.loads(json.dumps(value)) for key, value in config.items() if not key.startswith("_")}
