"""The models that `generation.py` measures: the embedded one, and published architectures with random weights."""

from pathlib import Path

import diffusers
import torch
import transformers

from synaug.generator.architecture import build_tokenizer

ROOT = Path(__file__).resolve().parents[1]


def settings_of(name: str, folder: Path, device: str, quick: bool) -> dict:
    """Columns of the plan for the model `name`, which is saved to `folder` unless it is the embedded one.

    quick: a tiny one of the same family, at 128 pixels.
    """
    common = {
        "pipeline": "text-to-image", "prompt": "a photo of a bag", "negative_prompt": "", "adapters": "",
        "scheduler": "", "variant": "", "strength": None, "original_size": 0, "truncate": False,
        "source_image": None, "color": "rgb", "format": "webp",
        "dtype": "bfloat16" if device.startswith("cuda") else "float32", "sampler_version": 2,
    }  # fmt: skip
    build, own = MODELS[name]
    if build is None:
        return common | own | {"model": str(ROOT / "resources" / "embedded_generator"), "dtype": "float32"}
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        build(quick).save_pretrained(folder)
    finally:
        torch.set_default_dtype(torch.float32)
    small = {"size": 128, "stored_size": 128, "steps": 2} if quick else {}
    return common | own | small | {"model": str(folder)}


def stable_diffusion(quick: bool) -> diffusers.StableDiffusionPipeline:
    """Stable Diffusion 1.5."""
    tokenizer = build_tokenizer(["a photo of a bag"])
    unet = diffusers.UNet2DConditionModel(
        sample_size=16 if quick else 64, cross_attention_dim=32 if quick else 768, attention_head_dim=8,
        block_out_channels=(32, 32, 32, 32) if quick else (320, 640, 1280, 1280),
    )  # fmt: skip
    return diffusers.StableDiffusionPipeline(
        vae=_autoencoder(quick), text_encoder=_clip(tokenizer, *((32, 2, 2) if quick else (768, 12, 12))),
        tokenizer=tokenizer, unet=unet, scheduler=diffusers.DPMSolverMultistepScheduler(beta_schedule="scaled_linear"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_xl(quick: bool) -> diffusers.StableDiffusionXLPipeline:
    """SDXL, and SDXL-Turbo, which differs in its weights and scheduler."""
    tokenizer = build_tokenizer(["a photo of a bag"])
    one, two = ((32, 2, 2), (32, 2, 2)) if quick else ((768, 12, 12), (1280, 32, 20))
    unet = diffusers.UNet2DConditionModel(
        sample_size=16 if quick else 64, cross_attention_dim=one[0] + two[0], addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=6 * 256 + two[0],
        block_out_channels=(32, 64, 64) if quick else (320, 640, 1280), attention_head_dim=2 if quick else (5, 10, 20),
        transformer_layers_per_block=(1, 1, 1) if quick else (1, 2, 10), use_linear_projection=True,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return diffusers.StableDiffusionXLPipeline(
        vae=_autoencoder(quick, scaling_factor=0.13025), text_encoder=_clip(tokenizer, *one),
        text_encoder_2=_clip(tokenizer, *two, projected=True), tokenizer=tokenizer, tokenizer_2=tokenizer, unet=unet,
        scheduler=diffusers.EulerAncestralDiscreteScheduler(beta_schedule="scaled_linear", timestep_spacing="trailing"),
    )  # fmt: skip


def diffusion_transformer(quick: bool) -> diffusers.DiTPipeline:
    """DiT-XL/2 at 256 pixels."""
    layers, heads, width = (2, 2, 16) if quick else (28, 16, 72)
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=heads, attention_head_dim=width, in_channels=4, out_channels=8, num_layers=layers,
        attention_bias=True, sample_size=16 if quick else 32, patch_size=2, activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000, norm_type="ada_norm_zero", norm_elementwise_affine=False,
    )  # fmt: skip
    return diffusers.DiTPipeline(
        transformer=transformer, vae=_autoencoder(quick), scheduler=diffusers.DPMSolverMultistepScheduler()
    )


MODELS = {
    "embedded": (
        None, {"size": 32, "stored_size": 32, "color": "grey", "format": "png", "steps": 8, "guidance": 2.25},
    ),
    "sd15": (stable_diffusion, {"size": 512, "stored_size": 512, "steps": 20, "guidance": 2.0}),
    "sd15_lcm": (
        stable_diffusion, {"size": 512, "stored_size": 512, "steps": 4, "guidance": 1.0, "scheduler": "LCMScheduler"},
    ),
    "sdxl_turbo": (stable_diffusion_xl, {"size": 512, "stored_size": 512, "steps": 1, "guidance": 0.0}),
    "dit_xl": (
        diffusion_transformer, {"size": 256, "stored_size": 256, "steps": 50, "guidance": 2.0,
                                "pipeline": "class-conditional", "prompt": "1"},
    ),
}  # fmt: skip


def _autoencoder(quick: bool, **settings) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=(32, 32, 32, 32) if quick else (128, 256, 512, 512), layers_per_block=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, sample_size=512,
        **{"scaling_factor": 0.18215} | settings,
    )  # fmt: skip


def _clip(tokenizer, width: int, layers: int, heads: int, projected: bool = False):
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=4 * width, projection_dim=width,
        num_hidden_layers=layers, num_attention_heads=heads, max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return (transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel)(config)
