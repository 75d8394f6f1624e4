"""Second half of the training: the denoiser, together with its text encoder."""

import torch
from diffusers import UNet2DConditionModel
from torch.nn import functional
from transformers import CLIPTextModel

from synaug.generator.architecture import build_scheduler
from synaug.generator.loop import TrainingLoop
from synaug.networks.ema import EMA

# Share of images trained with the empty prompt, which classifier-free guidance needs.
PROMPT_DROPOUT = 0.1
EMA_DECAY = 0.9995


class TextToLatents(torch.nn.Module):
    """Text encoder and denoiser as one module: they are trained, averaged and saved together."""

    def __init__(self, text_encoder: CLIPTextModel, denoiser: UNet2DConditionModel) -> None:
        super().__init__()
        self.text_encoder, self.denoiser = text_encoder, denoiser

    def forward(self, noisy: torch.Tensor, times: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The predicted velocity of `noisy` (B x C x s x s) at `times` (B) under the prompts `tokens` (B x L)."""
        # A batch has few different prompts: each is encoded once.
        unique, positions = torch.unique(tokens, dim=0, return_inverse=True)
        text = self.text_encoder(unique).last_hidden_state[positions]
        return self.denoiser(noisy, times, encoder_hidden_states=text).sample


def train_denoiser(
    model: TextToLatents,
    latents: tuple[torch.Tensor, torch.Tensor],
    labels: torch.Tensor,
    captions: torch.Tensor,
    caption_rows: list[torch.Tensor],
    image_probabilities: torch.Tensor | None,
    loop: TrainingLoop,
) -> torch.nn.Module:
    """Train `model` and return its running average, which samples better than its last state.

    latents: means and standard deviations, each N x C x s x s. labels: N. captions: token ids, one caption per row,
    the empty prompt first. caption_rows: for each label, the rows of `captions` that describe it.
    image_probabilities: N, how likely each image is drawn; None: uniform.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    average = EMA(model, EMA_DECAY)
    captions_per_label = torch.tensor([len(rows) for rows in caption_rows])
    padded_rows = torch.nn.utils.rnn.pad_sequence(caption_rows, batch_first=True)
    # The noise schedule that the model will be sampled with.
    alphas_cumprod = build_scheduler().alphas_cumprod.to(device)[:, None, None, None]
    size = loop.batch_size

    def train_step(step: int, random: torch.Generator) -> torch.Tensor:
        if image_probabilities is None:
            batch = torch.randint(len(labels), (size,), generator=random)
        else:
            batch = torch.multinomial(image_probabilities, size, replacement=True, generator=random)
        means, stds = latents[0][batch], latents[1][batch]
        clean = means + stds * torch.randn(means.shape, generator=random)
        noise = torch.randn(means.shape, generator=random)
        wording = (torch.rand(size, generator=random) * captions_per_label[labels[batch]]).long()
        dropped = torch.rand(size, generator=random) < PROMPT_DROPOUT
        # Row 0 of `captions` is the empty prompt.
        tokens = captions[torch.where(dropped, 0, padded_rows[labels[batch], wording])].to(device)
        times = torch.randint(len(alphas_cumprod), (size,), generator=random).to(device)
        clean, noise = (tensor.to(device, memory_format=torch.channels_last) for tensor in (clean, noise))
        signal_level, noise_level = alphas_cumprod[times].sqrt(), (1 - alphas_cumprod[times]).sqrt()
        # Velocity prediction (Salimans and Ho 2022).
        predicted = model(signal_level * clean + noise_level * noise, times, tokens)
        loss = functional.mse_loss(predicted, signal_level * noise - noise_level * clean)
        loop.optimizer_step(loss, optimizer, step)
        average.update_parameters(model)
        return loss

    model.train()
    loop.run({"model": model, "average": average, "optimizer": optimizer}, train_step)
    return average.module.eval()
