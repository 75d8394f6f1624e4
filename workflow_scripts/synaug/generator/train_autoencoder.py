"""First half of the training: an autoencoder, and the images as its latents."""

import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from synaug.generator.loop import TrainingLoop

# Weight of the Kullback-Leibler divergence, which is summed over an image's latents while the other terms are means:
# just enough to keep the latents from drifting away. At 1e-4 most channels carry no information.
KL_WEIGHT = 1e-5


def train_autoencoder(autoencoder: AutoencoderKL, images: torch.Tensor, loop: TrainingLoop) -> None:
    """Train `autoencoder` in place on `images`, uint8, N x C x S x S."""
    optimizer = torch.optim.AdamW(autoencoder.parameters(), betas=(0.9, 0.99), weight_decay=1e-3, fused=True)

    def train_step(step: int, random: torch.Generator) -> torch.Tensor:
        batch = images[torch.randint(len(images), (loop.batch_size,), generator=random)]
        batch = to_signal(batch).to(autoencoder.device, memory_format=torch.channels_last)
        posterior = autoencoder.encode(batch).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=random).to(autoencoder.device)
        decoded = autoencoder.decode(posterior.mean + posterior.std * noise).sample
        loss = functional.l1_loss(decoded, batch) + 2 * _edge_loss(decoded, batch) + KL_WEIGHT * posterior.kl().mean()
        loop.optimizer_step(loss, optimizer, step)
        return loss

    autoencoder.train()
    loop.run({"model": autoencoder, "optimizer": optimizer}, train_step)
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
    """Change `autoencoder` so that its latents have mean 0 and variance 1 per channel; decoding stays the same.

    Stable Diffusion has one scaling factor for all channels. Here the shift and the scale of each channel are folded
    into the 1 x 1 convolutions before and after the latents, so that every loader reproduces them.
    means, stds: from `encode`, before the change. Returns what `encode` would return after it.
    """
    shift = means.mean((0, 2, 3))
    scale = (means.var((0, 2, 3)) + stds.square().mean((0, 2, 3))).sqrt()
    shift_all, scale_all = shift[:, None, None], scale[:, None, None]
    shift, scale = shift.to(autoencoder.device), scale.to(autoencoder.device)
    channels = len(shift)
    to_latents, from_latents = autoencoder.quant_conv, autoencoder.post_quant_conv
    assert to_latents.bias is not None and from_latents.bias is not None  # as AutoencoderKL builds them
    from_latents.bias += from_latents.weight[:, :, 0, 0] @ shift
    from_latents.weight *= scale[None, :, None, None]
    # The first half of the outputs of `to_latents` are means, the second half log-variances.
    to_latents.weight[:channels] /= scale[:, None, None, None]
    to_latents.bias[:channels] = (to_latents.bias[:channels] - shift) / scale
    to_latents.bias[channels:] -= 2 * scale.log()
    return (means - shift_all) / scale_all, stds / scale_all


def _edge_loss(decoded: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """L1 distance of the differences between neighbouring pixels; without it, fine structure is blurred away."""
    error = decoded - images
    return error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
