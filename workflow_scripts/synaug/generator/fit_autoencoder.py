"""The first half of the training: an autoencoder, and the images as its latents."""

import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from synaug.generator.loop import Loop

# Weight of the Kullback-Leibler divergence, which is summed over an image's latents while the other terms are means:
# just enough to keep the latents from drifting off. At 1e-4 most channels carry nothing.
KL_WEIGHT = 1e-5


def fit_autoencoder(autoencoder: AutoencoderKL, images: torch.Tensor, loop: Loop) -> None:
    """Train `autoencoder` in place on `images`, uint8, N x C x S x S."""
    optimizer = torch.optim.AdamW(autoencoder.parameters(), betas=(0.9, 0.99), weight_decay=1e-3, fused=True)

    def one_step(step: int, random: torch.Generator) -> torch.Tensor:
        batch = images[torch.randint(len(images), (loop.batch_size,), generator=random)]
        batch = to_signal(batch).to(autoencoder.device, memory_format=torch.channels_last)
        posterior = autoencoder.encode(batch).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=random).to(autoencoder.device)
        decoded = autoencoder.decode(posterior.mean + posterior.std * noise).sample
        loss = functional.l1_loss(decoded, batch) + 2 * _edges(decoded, batch) + KL_WEIGHT * posterior.kl().mean()
        loop.descend(loss, optimizer, step)
        return loss

    autoencoder.train()
    loop.run({"model": autoencoder, "optimizer": optimizer}, one_step)
    autoencoder.eval()


def to_signal(images: torch.Tensor) -> torch.Tensor:
    """uint8 images as floats from -1 to 1, the range that diffusion pipelines work in."""
    return images.float() / 127.5 - 1


@torch.inference_mode()
def encode(autoencoder: AutoencoderKL, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and standard deviations of the latents (each N x L x s x s, on the CPU) of uint8 images, N x C x S x S."""
    means, stds = [], []
    for batch in images.split(256):
        batch = to_signal(batch).to(autoencoder.device, memory_format=torch.channels_last)
        posterior = autoencoder.encode(batch).latent_dist
        means.append(posterior.mean.cpu())
        stds.append(posterior.std.cpu())
    return torch.cat(means), torch.cat(stds)


@torch.no_grad()
def normalise_latents(
    autoencoder: AutoencoderKL, means: torch.Tensor, stds: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Change `autoencoder` so that the latents have mean 0 and variance 1 in every channel; decoding stays the same.

    Stable Diffusion has one factor for all channels. Here shift and scale of each channel go into the 1 x 1
    convolutions on either side of the latents, so that no loader needs to know. `means` and `stds`: those of
    `encode`, before the change; what `encode` would give after it is returned.
    """
    shift = means.mean((0, 2, 3))
    scale = (means.var((0, 2, 3)) + stds.square().mean((0, 2, 3))).sqrt()
    shift_all, scale_all = shift[:, None, None], scale[:, None, None]
    shift, scale = shift.to(autoencoder.device), scale.to(autoencoder.device)
    channels = len(shift)
    into, out_of = autoencoder.quant_conv, autoencoder.post_quant_conv
    assert into.bias is not None and out_of.bias is not None  # as AutoencoderKL builds them
    out_of.bias += out_of.weight[:, :, 0, 0] @ shift
    out_of.weight *= scale[None, :, None, None]
    into.weight[:channels] /= scale[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - shift) / scale
    into.bias[channels:] -= 2 * scale.log()  # the other half of the outputs are log-variances
    return (means - shift_all) / scale_all, stds / scale_all


def _edges(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """L1 distance of the differences between neighbouring pixels; without it, seams and knit are blurred away."""
    difference = one - other
    return difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
