"""The second half of the training: the denoiser, together with the text encoder that it listens to."""

import torch
from diffusers import UNet2DConditionModel
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from transformers import CLIPTextModel

from synaug.generator.architecture import build_scheduler
from synaug.generator.loop import Loop

# Share of images shown with the empty prompt, which is what guidance compares with.
PROMPT_DROPOUT = 0.1
EMA_DECAY = 0.9995


class TextToLatents(torch.nn.Module):
    """Text encoder and denoiser as one module: they are trained, averaged and saved together."""

    def __init__(self, text_encoder: CLIPTextModel, denoiser: UNet2DConditionModel) -> None:
        super().__init__()
        self.text_encoder, self.denoiser = text_encoder, denoiser

    def forward(self, noisy: torch.Tensor, times: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The predicted velocity of `noisy` (B x C x s x s) at `times` (B) under the prompts `tokens` (B x L)."""
        # Most prompts of a batch are the same few: each is encoded once.
        unique, where = torch.unique(tokens, dim=0, return_inverse=True)
        text = self.text_encoder(unique).last_hidden_state[where]
        return self.denoiser(noisy, times, encoder_hidden_states=text).sample


def fit_denoiser(
    model: TextToLatents,
    latents: tuple[torch.Tensor, torch.Tensor],
    labels: torch.Tensor,
    captions: torch.Tensor,
    wordings: list[torch.Tensor],
    shares: torch.Tensor | None,
    loop: Loop,
) -> torch.nn.Module:
    """Train `model` and return its running average, which samples better than its last state.

    latents: means and standard deviations, each N x C x s x s. labels: N. captions: token ids, one row a caption, the
    empty prompt first. wordings: for each label, the rows of `captions` that describe it. shares: how often each image
    is drawn, N; None: all alike.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    average = AveragedModel(model, multi_avg_fn=_running_average)
    counts = torch.tensor([len(rows) for rows in wordings])
    padded = torch.nn.utils.rnn.pad_sequence(wordings, batch_first=True)
    # From the schedule that the model will be sampled with.
    kept = build_scheduler().alphas_cumprod.to(device)[:, None, None, None]
    size = loop.batch_size

    def one_step(step: int, random: torch.Generator) -> torch.Tensor:
        if shares is None:
            batch = torch.randint(len(labels), (size,), generator=random)
        else:
            batch = torch.multinomial(shares, size, replacement=True, generator=random)
        means, stds = latents[0][batch], latents[1][batch]
        clean = means + stds * torch.randn(means.shape, generator=random)
        noise = torch.randn(means.shape, generator=random)
        wording = (torch.rand(size, generator=random) * counts[labels[batch]]).long()
        dropped = torch.rand(size, generator=random) < PROMPT_DROPOUT
        tokens = captions[torch.where(dropped, 0, padded[labels[batch], wording])].to(device)
        times = torch.randint(len(kept), (size,), generator=random).to(device)
        clean, noise = (tensor.to(device, memory_format=torch.channels_last) for tensor in (clean, noise))
        signal, spread = kept[times].sqrt(), (1 - kept[times]).sqrt()
        velocity = model(signal * clean + spread * noise, times, tokens)
        loss = functional.mse_loss(velocity, signal * noise - spread * clean)
        loop.descend(loss, optimizer, step)
        average.update_parameters(model)
        return loss

    model.train()
    loop.run({"model": model, "average": average, "optimizer": optimizer}, one_step)
    return average.module.eval()


@torch.no_grad()
def _running_average(averaged: list[torch.Tensor], current: list[torch.Tensor], updates: torch.Tensor) -> None:
    # A young average forgets faster, or it would remember the random start of a short training.
    decay = min(EMA_DECAY, (1 + updates.item()) / (10 + updates.item()))
    torch._foreach_lerp_(averaged, current, 1 - decay)
