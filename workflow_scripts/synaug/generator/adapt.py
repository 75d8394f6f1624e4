"""Train an adapter (LoRA) of a public text-to-image model on labelled images."""

import json
import logging
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from diffusers.training_utils import _collate_lora_metadata, cast_training_params, free_memory
from diffusers.utils import convert_state_dict_to_diffusers
from safetensors.torch import save

from synaug.config import Adaptation
from synaug.generation.sampling import is_out_of_memory
from synaug.generator.adapt_families import StableDiffusion, family_of
from synaug.generator.loop import TrainingLoop, random_of_step
from synaug.generator.output_folder import ADAPTER_MARK
from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path, text_hash

log = logging.getLogger(__name__)

_HISTORY_ROWS = 200


class LoraAdapter:
    """The low-rank changes of a pipeline while they are trained.

    Everything else in the pipeline is frozen. `weights`: name -> the tensor that is trained, float32.
    """

    def __init__(self, pipeline, size: int, settings: Adaptation, seed: int, original_size: int | None = None) -> None:
        """Add changes that change nothing yet. size: of the images, pixels. original_size: see `family_of`.

        Raises UserError if peft is missing, and if no adapter can be trained for this pipeline or its text encoders.
        """
        if find_spec("peft") is None:
            raise UserError("adaptation: needs the package peft", advice="pip install 'synaug[lora]'")
        from peft import LoraConfig

        self.pipeline, self.settings = pipeline, settings
        self.family: StableDiffusion = family_of(pipeline, size, settings.snr_gamma, original_size)
        if settings.text_encoder and not self.family.text_encoders:
            raise UserError(
                f"adaptation.text_encoder: is not supported for {type(pipeline).__name__}; leave it out, or set false"
            )
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False)
        self.modules = {self.family.denoiser: getattr(pipeline, self.family.denoiser)}
        others = self.family.other_targets if settings.layers == "all" else ()
        targets = {self.family.denoiser: [*self.family.targets, *others]}
        if settings.text_encoder:
            for name in self.family.text_encoders:
                self.modules[name] = getattr(pipeline, name)
                targets[name] = ["q_proj", "k_proj", "v_proj", "out_proj"]
        torch.manual_seed(seed)
        self.weights: dict[str, torch.Tensor] = {}
        for name, module in self.modules.items():
            config = LoraConfig(
                r=settings.rank, lora_alpha=settings.rank, init_lora_weights="gaussian", target_modules=targets[name]
            )
            module.add_adapter(config)
            cast_training_params(module, torch.float32)
            module.train()
            if settings.gradient_checkpointing and name == self.family.denoiser:
                module.enable_gradient_checkpointing()
            elif settings.gradient_checkpointing:
                module.gradient_checkpointing_enable()
            trained = [(key, weight) for key, weight in module.named_parameters() if weight.requires_grad]
            self.weights |= {f"{name}.{key}": weight for key, weight in trained}
        log.info("adapter: %d weights in %s", sum(map(torch.numel, self.weights.values())), ", ".join(self.modules))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The weights that are trained, without those of the model."""
        return {name: weight.detach() for name, weight in self.weights.items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from `state_dict`."""
        for name, weight in self.weights.items():
            weight.copy_(state[name])

    def save(self, file: Path) -> None:
        """Write the adapter as one safetensors file with rank and alpha in its metadata; equal weights, equal bytes."""
        from peft import get_peft_model_state_dict

        layers = {}
        for name, module in self.modules.items():
            weights = get_peft_model_state_dict(module)
            if name != self.family.denoiser:  # layers of the denoiser are loaded under their names in peft
                weights = convert_state_dict_to_diffusers(weights)
            layers[f"{name}_lora_layers"] = {key: weight.cpu().contiguous() for key, weight in weights.items()}
        metadata = {}
        for name, module in self.modules.items():
            (settings,) = _collate_lora_metadata({name: module}).values()
            # Sets have another order in every process.
            settings = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
            metadata |= {f"{name}.{key}": value for key, value in settings.items()}
        text = json.dumps(metadata, sort_keys=True, default=str)

        def write(weights: dict[str, torch.Tensor], path: str) -> None:
            data = save(weights, {"format": "pt", LORA_ADAPTER_METADATA_KEY: text, **ADAPTER_MARK})
            with atomic_path(file, len(data)) as temporary:
                temporary.write_bytes(_with_sorted_header(data))

        type(self.pipeline).save_lora_weights(file.parent, save_function=write, **layers)


def _with_sorted_header(data: bytes) -> bytes:
    """The safetensors file `data` with its header in a fixed order.

    The library writes metadata in another order each time, and the hash of the file is part of image ids.
    """
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[start:]


def drawn_images(settings: Adaptation, count: int, image_probabilities: torch.Tensor | None, seed: int) -> torch.Tensor:
    """Positions of the images, of `count`, that `train_adapter` draws: int64, ascending, each once."""
    batches = [
        _draw_batch(settings.batch_size, count, image_probabilities, random_of_step(seed, step))
        for step in range(settings.steps)
    ]
    return torch.cat(batches).unique()


def _draw_batch(
    size: int, count: int, image_probabilities: torch.Tensor | None, random: torch.Generator
) -> torch.Tensor:
    if image_probabilities is None:
        return torch.randint(count, (size,), generator=random)
    return torch.multinomial(image_probabilities, size, replacement=True, generator=random)


def train_adapter(
    adapter: LoraAdapter,
    latents: tuple[torch.Tensor, torch.Tensor],
    labels: torch.Tensor,
    captions: Sequence[Sequence[str]],
    image_probabilities: torch.Tensor | None,
    *,
    seed: int,
    work: Path,
    data: Sequence,
    encoded: torch.Tensor | None = None,
    save_every_s: float = 60,
) -> pd.DataFrame:
    """Train `adapter` in place. Returns rows of the manifest `history`.

    latents: from `encode_images`. labels: N. captions: for each label, its captions. image_probabilities: N, how likely
    each image is drawn; None: uniform. encoded: positions of the images that `latents` has, ascending, `drawn_images`
    at least; None: all. work: folder for the state of an interrupted training, saved every `save_every_s` seconds; the
    same call continues from there and ends in the same weights. data: values (JSON) that identify model, images and
    captions; a state of others is ignored.
    If memory runs out, the images of a step pass through the model in smaller parts, which changes the adapter by
    rounding only. Raises UserError if there is no memory for one image, and if the loss is not finite.
    """
    settings, family = adapter.settings, adapter.family
    device = next(iter(adapter.weights.values())).device
    optimizer = _optimizer(list(adapter.weights.values()), settings)
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "float16")
    embeddings = _CaptionEmbeddings(family, captions, cached=not settings.text_encoder)
    captions_per_label = torch.tensor([len(texts) for texts in captions])
    history = _History()
    keep_out = {"output", "gradient_checkpointing"}
    work.mkdir(parents=True, exist_ok=True)
    loop = TrainingLoop(
        "adapter", settings.steps, settings.batch_size, seed, settings.learning_rate, work / "adapter.pt",
        text_hash([data, seed, settings.model_dump(exclude=keep_out)]), save_every_s, max_warm_up=100,
    )  # fmt: skip
    at_once = settings.batch_size  # images that pass through the model together

    def train_step(step: int, random: torch.Generator) -> torch.Tensor:
        nonlocal at_once
        size = settings.batch_size
        batch = _draw_batch(size, len(labels), image_probabilities, random)
        rows = batch if encoded is None else torch.searchsorted(encoded, batch)
        mirrored = torch.randint(len(latents[0]), (size,), generator=random)
        mean, std = (part[mirrored, rows].float() for part in latents)
        clean = mean + std * torch.randn(mean.shape, generator=random)
        noise = torch.randn(mean.shape, generator=random)
        times = family.draw_times(size, random)
        wording = (torch.rand(size, generator=random) * captions_per_label[labels[batch]]).long()
        dropped = torch.rand(size, generator=random) < settings.caption_dropout
        texts = [
            None if drop else (int(label), int(number))
            for drop, label, number in zip(dropped, labels[batch], wording, strict=True)
        ]
        while True:
            optimizer.zero_grad()
            total = torch.zeros((), device=device)
            try:
                for part in torch.arange(size).split(at_once):
                    with torch.autocast(
                        device.type, getattr(torch, settings.precision), enabled=settings.precision != "float32"
                    ):
                        text = embeddings.of([texts[i] for i in part], device)
                        losses = family.losses(*(tensor[part].to(device) for tensor in (clean, noise, times)), text)
                    loss = losses.sum() / size
                    scaler.scale(loss).backward()
                    total += loss.detach()
                break
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if at_once == 1:
                    raise UserError(
                        "adaptation: out of memory with one image; set gradient_checkpointing, optimizer: adamw_8bit, "
                        "a 16-bit precision or a smaller generation.size, or use a device with more memory"
                    ) from None
                at_once = -(-at_once // 2)
                log.warning("out of memory: images pass through the model in parts of %d", at_once)
            # After the handler: the error holds what was in memory when it was raised.
            optimizer.zero_grad()
            free_memory()
        if not torch.isfinite(total):
            raise UserError(
                f"adaptation: the loss is not finite at step {step + 1}; lower learning_rate, or use precision: float32"
            )
        loop.apply_gradients(optimizer, step, scaler)
        history.losses.append(total.item())
        return total

    loop.run({"adapter": adapter, "optimizer": optimizer, "scaler": scaler, "history": history}, train_step)
    return history.rows(loop, len(labels))


class _CaptionEmbeddings:
    """The embeddings of captions: computed once, or for every batch if the text encoder is trained."""

    def __init__(self, family: StableDiffusion, captions: Sequence[Sequence[str]], cached: bool) -> None:
        self.family, self.captions = family, captions
        self.cache: dict[tuple[int, int] | None, tuple[torch.Tensor, ...]] = {}
        if cached:
            with torch.no_grad():
                for label, texts in enumerate(captions):
                    for number in range(len(texts)):
                        self.cache[label, number] = tuple(part.cpu() for part in self._encode((label, number)))
                self.cache[None] = tuple(part.cpu() for part in self._encode(None))

    def of(self, keys: list[tuple[int, int] | None], device: torch.device) -> tuple[torch.Tensor, ...]:
        """A row for each key: (label, number of the caption), or None for no caption."""
        unique = self.cache or {key: self._encode(key) for key in dict.fromkeys(keys)}
        return tuple(torch.cat(parts).to(device) for parts in zip(*(unique[key] for key in keys), strict=True))

    def _encode(self, key: tuple[int, int] | None) -> tuple[torch.Tensor, ...]:
        return self.family.without_caption() if key is None else self.family.encode([self.captions[key[0]][key[1]]])


class _History:
    """The loss of every step so far; part of the saved state."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def state_dict(self) -> dict:
        return {"losses": self.losses}

    def load_state_dict(self, state: dict) -> None:
        self.losses = state["losses"]

    def rows(self, loop: TrainingLoop, image_count: int) -> pd.DataFrame:
        """Rows of the manifest `history`, at most _HISTORY_ROWS."""
        every = -(-len(self.losses) // _HISTORY_ROWS)
        steps = [*range(every, len(self.losses), every), len(self.losses)]
        starts = [0, *steps[:-1]]
        means = [sum(self.losses[a:b]) / (b - a) for a, b in zip(starts, steps, strict=True)]
        epochs = [step * loop.batch_size / image_count for step in steps]
        rates = [loop.rate(step - 1) for step in steps]
        return pd.DataFrame({"step": steps, "epoch": epochs, "loss": means, "learning_rate": rates})


def _optimizer(weights: list[torch.Tensor], settings: Adaptation) -> torch.optim.Optimizer:
    optimizer_class = torch.optim.AdamW
    if settings.optimizer == "adamw_8bit":
        if find_spec("bitsandbytes") is None:
            raise UserError(
                "adaptation.optimizer: adamw_8bit needs the package bitsandbytes", advice="pip install bitsandbytes"
            )
        optimizer_class = import_module("bitsandbytes.optim").AdamW8bit
    return optimizer_class(weights, lr=settings.learning_rate, weight_decay=1e-2)
