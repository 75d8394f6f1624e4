"""The model families that an adapter can be trained for: their text embeddings, noise, loss and layers."""

import torch
from diffusers import DDPMScheduler, DiffusionPipeline
from diffusers.training_utils import (
    compute_density_for_timestep_sampling,
    compute_loss_weighting_for_sd3,
    compute_snr,
)

from synaug.runtime.errors import UserError


class StableDiffusion:
    """Stable Diffusion 1 and 2: one text encoder, a U-Net that predicts noise or velocity."""

    denoiser = "unet"
    text_encoders: tuple[str, ...] = ("text_encoder",)
    # Layers that get low-rank changes: the projections of the attention, as in the scripts of diffusers.
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    # With `layers: all`, these too: convolutions and feed-forward layers.
    other_targets: tuple[str, ...] = (
        "conv1", "conv2", "conv_in", "conv_out", "time_emb_proj", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
    )  # fmt: skip

    original_size: int | None = None  # see `family_of`

    def __init__(self, pipeline, size: int, snr_gamma: float | None) -> None:
        """size: of the images, pixels. snr_gamma: limit of the loss weights (min-SNR); None: no weights.

        Raises UserError if the model predicts neither noise nor velocity, or if no betas give its noise levels.
        """
        self.pipeline, self.size, self.snr_gamma = pipeline, size, snr_gamma
        if "beta_schedule" not in pipeline.scheduler.config:  # for example EDM (Playground v2.5)
            raise UserError(
                f"adaptation: the noise of {pipeline.name_or_path} follows {type(pipeline.scheduler).__name__}, and an "
                "adapter can be trained for schedules of betas only; choose another generation.model"
            )
        self.schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.prediction = self.schedule.config.prediction_type
        if self.prediction not in ("epsilon", "v_prediction"):
            raise UserError(
                f"adaptation: {pipeline.name_or_path} predicts {self.prediction!r}, and an adapter can be trained for "
                "epsilon and v_prediction only; choose another generation.model"
            )

    def encode(self, captions: list[str]) -> tuple[torch.Tensor, ...]:
        """What the denoiser gets of the captions: tensors with a row per caption."""
        # Not `pipeline.encode_prompt`, which remembers what it encoded: the text encoder may be trained.
        arguments = {"device": self._module().device, "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
        return (type(self.pipeline).encode_prompt(self.pipeline, captions, **arguments)[0],)

    def without_caption(self) -> tuple[torch.Tensor, ...]:
        """As `encode`, one row: what the denoiser gets when an image is sampled without a text."""
        return self.encode([""])

    def draw_times(self, count: int, random: torch.Generator) -> torch.Tensor:
        """Positions in the noise schedule, int64, `count`, on the CPU."""
        return torch.randint(self.schedule.config.num_train_timesteps, (count,), generator=random)

    def losses(
        self, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor, text: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        """The loss of each image (float32, B): squared error of the prediction, weighted by min-SNR.

        clean, noise: latents, float32, B x C x s x s. times: from `draw_times`. text: of `encode`, B rows.
        Weight: min(SNR, gamma) / SNR for noise, min(SNR, gamma) / (SNR + 1) for velocity (Hang et al. 2023, arXiv
        2303.09556, section 3.4).
        """
        noisy = self.schedule.add_noise(clean, noise, times)
        target = noise if self.prediction == "epsilon" else self.schedule.get_velocity(clean, noise, times)
        predicted = self._predict(noisy.to(self._module().dtype), times, text).float()
        losses = (predicted - target).square().mean((1, 2, 3))
        if self.snr_gamma is None:
            return losses
        snr = compute_snr(self.schedule, times)
        # With zero terminal SNR, a model that predicts noise would divide by zero.
        scale = snr.clamp(min=1e-8) if self.prediction == "epsilon" else snr + 1
        return losses * snr.clamp(max=self.snr_gamma) / scale

    def _predict(self, noisy: torch.Tensor, times: torch.Tensor, text: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return self._module()(noisy, times, encoder_hidden_states=text[0]).sample

    def _module(self) -> torch.nn.Module:
        return getattr(self.pipeline, self.denoiser)


class StableDiffusionXL(StableDiffusion):
    """SDXL: two text encoders, a pooled embedding, and sizes as a condition."""

    text_encoders = ("text_encoder", "text_encoder_2")

    def encode(self, captions: list[str]) -> tuple[torch.Tensor, ...]:
        """As in the base class: embeddings of tokens and of the whole caption."""
        arguments = {"device": self._module().device, "do_classifier_free_guidance": False}
        embeddings, _, pooled, _ = type(self.pipeline).encode_prompt(self.pipeline, captions, **arguments)
        return embeddings, pooled

    def without_caption(self) -> tuple[torch.Tensor, ...]:
        """Zeros, where the pipeline guides away from zeros when there is no negative prompt."""
        text = super().without_caption()
        zeros = self.pipeline.config.force_zeros_for_empty_prompt
        return tuple(torch.zeros_like(tensor) for tensor in text) if zeros else text

    def _predict(self, noisy: torch.Tensor, times: torch.Tensor, text: tuple[torch.Tensor, ...]) -> torch.Tensor:
        # Original size, crop and target size, as the pipeline passes them when it samples images of this size.
        original = self.original_size or self.size
        sizes = torch.tensor([[original, original, 0, 0, self.size, self.size]], device=noisy.device)
        conditions = {"text_embeds": text[1], "time_ids": sizes.to(noisy.dtype).expand(len(noisy), -1)}
        arguments = {"encoder_hidden_states": text[0], "added_cond_kwargs": conditions}
        return self._module()(noisy, times, **arguments).sample


class StableDiffusion3(StableDiffusion):
    """SD3: a transformer that predicts the flow from image to noise, with two or three frozen text encoders."""

    denoiser = "transformer"
    text_encoders = ()
    targets = (
        "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
        "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out",
    )  # fmt: skip
    other_targets = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")

    def __init__(self, pipeline, size: int, snr_gamma: float | None) -> None:
        """size, snr_gamma: have no effect on this family."""
        # A copy: sampling changes the steps of the pipeline's own.
        self.pipeline, self.schedule = pipeline, type(pipeline.scheduler).from_config(pipeline.scheduler.config)

    def encode(self, captions: list[str]) -> tuple[torch.Tensor, ...]:
        """As in the base class: embeddings of tokens and of the whole caption."""
        arguments = {"device": self._module().device, "do_classifier_free_guidance": False}
        captions_of_encoders = [captions] * 3
        embeddings, _, pooled, _ = type(self.pipeline).encode_prompt(self.pipeline, *captions_of_encoders, **arguments)
        return embeddings, pooled

    def draw_times(self, count: int, random: torch.Generator) -> torch.Tensor:
        """Positions in the noise schedule, logit-normal with mean 0, deviation 1 (Esser et al. 2024, section 3.1)."""
        density = compute_density_for_timestep_sampling("logit_normal", count, 0.0, 1.0, generator=random)
        return (density * self.schedule.config.num_train_timesteps).long()

    def losses(
        self, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor, text: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        """As in the base class; the flow is noise - clean."""
        module = self._module()
        sigmas = self.schedule.sigmas.to(clean.device)[times][:, None, None, None]
        noisy = ((1 - sigmas) * clean + sigmas * noise).to(module.dtype)
        steps = self.schedule.timesteps.to(clean.device)[times]
        arguments = {"timestep": steps, "encoder_hidden_states": text[0], "pooled_projections": text[1]}
        predicted = module(noisy, **arguments).sample
        weights = compute_loss_weighting_for_sd3("logit_normal", sigmas)
        return (weights * (predicted.float() - (noise - clean)).square()).mean((1, 2, 3))


FAMILIES = {
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "StableDiffusion3Pipeline": StableDiffusion3,
}


def family_of(
    pipeline: DiffusionPipeline, size: int, snr_gamma: float | None, original_size: int | None = None
) -> StableDiffusion:
    """The family of `pipeline`. original_size: see `generation.original_size`, for SDXL.

    Raises UserError if no adapter can be trained for it.
    """
    name = type(pipeline).__name__
    if name not in FAMILIES:
        raise UserError(
            f"adaptation: no adapter can be trained for {name}, the architecture of {pipeline.name_or_path}; "
            "choose a Stable Diffusion 1, 2 or 3 or an SDXL as generation.model, or leave the block adaptation out"
        )
    family = FAMILIES[name](pipeline, size, snr_gamma)
    family.original_size = original_size
    return family
