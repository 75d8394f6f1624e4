"""Prompts that are longer than the text encoders of a model read: diffusers cuts them without an error."""

import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from synaug.config import Generation
from synaug.config.errors import shortened
from synaug.plan.model_family import checkpoint_file
from synaug.runtime.errors import UserError

TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
_TEXTS_AT_ONCE = 10_000


@dataclass(frozen=True)
class TextEncoder:
    """counts: numbers of tokens of texts, with those for start and end. limit: tokens that the encoder reads."""

    counts: Callable[[Sequence[str]], list[int]]
    limit: int


def encoder_of(
    tokenizer: Any,
    sequence_length: Callable[[], int | None],
    as_encoded: Callable[[list[str], Any], list[str]] = lambda texts, tokenizer: texts,
) -> TextEncoder:
    """The text encoder that `tokenizer` (of transformers) belongs to.

    CLIP reads `model_max_length` tokens; the others (T5, Gemma) read `sequence_length`, see `default_sequence_length`.
    as_encoded: what the pipeline makes of texts before it gives them to the tokenizer.
    """
    limit = tokenizer.model_max_length
    if not type(tokenizer).__name__.startswith("CLIP"):
        limit = sequence_length() or limit

    def counts(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(as_encoded(list(texts), tokenizer), verbose=False).input_ids]

    return TextEncoder(counts, limit)


def default_sequence_length(pipeline: type) -> int | None:
    """Tokens of a prompt that a pipeline of diffusers gives to encoders other than CLIP; None: it does not say."""
    parameter = inspect.signature(pipeline.__call__).parameters.get("max_sequence_length")
    return parameter.default if parameter else None


def read_text_encoders(generation: Generation) -> list[TextEncoder]:
    """The text encoders of `generation.model`; none if its tokenizers are not on this machine or cannot be used here.

    With textual inversion there are none either: only the loaded model knows the tokens of the new words.
    """
    if any(adapter.kind == "textual_inversion" for adapter in generation.adapters):
        return []
    model, revision = generation.model, generation.revision
    try:
        import transformers

        index = json.loads(checkpoint_file(model, revision, "model_index.json").read_text())

        def sequence_length() -> int | None:
            import diffusers  # only for models with other encoders than CLIP: the import takes seconds

            return default_sequence_length(getattr(diffusers, index["_class_name"]))

        encoders = []
        for name in TOKENIZERS:
            library, class_name = index.get(name) or (None, None)
            if library == "transformers":
                folder = checkpoint_file(model, revision, f"{name}/tokenizer_config.json").parent
                tokenizer = getattr(transformers, class_name).from_pretrained(folder, local_files_only=True)
                encoders.append(encoder_of(tokenizer, sequence_length))
        return encoders
    # envs/data.yaml, in which plans are made, has no library of models; a faulty checkpoint raises many types of
    # exceptions, and is reported when it is loaded. The prompts are then checked before the first image.
    except Exception:
        return []


def check_lengths(texts: Iterable[str], encoders: Sequence[TextEncoder], model: str) -> None:
    """Raise UserError if all `encoders` of `model` cut one of `texts`.

    A text that one of them reads to its end, such as T5 of SD3 and FLUX, is not lost.
    """
    if not encoders:
        return
    unique = list(dict.fromkeys(texts))
    widest = max(encoders, key=lambda encoder: encoder.limit)
    too_long: dict[str, int] = {}  # text -> its tokens
    for start in range(0, len(unique), _TEXTS_AT_ONCE):
        part = unique[start : start + _TEXTS_AT_ONCE]
        counts = [encoder.counts(part) for encoder in encoders]
        for text, *tokens in zip(part, *counts, strict=True):
            if all(count > encoder.limit for count, encoder in zip(tokens, encoders, strict=True)):
                too_long[text] = tokens[encoders.index(widest)]
    if too_long:
        text, tokens = next(iter(too_long.items()))
        others = f" (and {len(too_long) - 1} more)" if len(too_long) > 1 else ""
        raise UserError(
            f"prompts: {shortened(repr(text), 300)} has {tokens} tokens{others}, and the text encoder of {model} reads "
            f"{widest.limit}; the rest would be ignored",
            advice="shorten the template, modifier or name, or set prompts.truncate: true",
        )
