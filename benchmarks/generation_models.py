"""The models that `generation.py` measures: the embedded one, and published architectures with random weights."""

from pathlib import Path

import diffusers
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

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
    pipeline = on_meta_device(build, quick)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            fill_at_random(part, device)
    pipeline.save_pretrained(folder)
    del pipeline
    small = {"size": 128, "stored_size": 128, "steps": 2} if quick else {}
    return common | own | small | {"model": str(folder)}


def on_meta_device(build, quick: bool) -> diffusers.DiffusionPipeline:
    """The pipeline that `build` assembles, in bfloat16 and without memory for its weights: in seconds at any size."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            return build(quick)
    finally:
        torch.set_default_dtype(torch.float32)


@torch.no_grad()
def fill_at_random(part: torch.nn.Module, device: str) -> None:
    """Move `part` from the meta device to `device`, with weights that keep the scale of what passes through.

    Tables that are computed from the config, such as those of positions, become random, too.
    """
    torch.manual_seed(0)
    part.to_empty(device=device)
    if hasattr(part, "tie_weights"):  # T5: both names of its embedding were one tensor
        part.tie_weights()
    for name, values in part.state_dict().items():
        if not values.is_floating_point():
            values.zero_()
        elif values.dim() < 2:
            values.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            values.normal_(std=(3 * values[0].numel()) ** -0.5)


def repeated_calls(pipeline, settings: dict):
    """A function that repeats what a call of `pipeline` with `settings` asks of the denoiser and of the decoder.

    Their inputs are recorded in one call: the function works for every family, and does nothing between the steps.
    """
    inputs, decoded = [], []
    decode = pipeline.vae.decode

    def decode_and_record(latents, **options):
        decoded.append((latents, options))
        return decode(latents, **options)

    def record(module, arguments: tuple, options: dict) -> None:
        inputs.append((arguments, options))

    hook = pipeline.transformer.register_forward_pre_hook(record, with_kwargs=True)
    pipeline.vae.decode = decode_and_record
    try:
        pipeline(**settings)
    finally:
        hook.remove()
        pipeline.vae.decode = decode

    def repeat() -> torch.Tensor:
        for arguments, options in inputs:
            pipeline.transformer(*arguments, **options)
        latents, options = decoded[-1]
        return decode(latents, **options)[0]

    return repeat


def stable_diffusion(quick: bool) -> diffusers.StableDiffusionPipeline:
    """Stable Diffusion 1.5."""
    tokenizer = build_tokenizer(["a photo of a bag"])
    unet = diffusers.UNet2DConditionModel(
        sample_size=16 if quick else 64, cross_attention_dim=32 if quick else 768, attention_head_dim=8,
        block_out_channels=(32, 32, 32, 32) if quick else (320, 640, 1280, 1280),
    )  # fmt: skip
    return diffusers.StableDiffusionPipeline(
        vae=_autoencoder(quick), text_encoder=_clip(tokenizer, *((32, 2, 2) if quick else (768, 12, 12))),
        tokenizer=tokenizer, unet=unet,
        scheduler=_scheduler("DPMSolverMultistepScheduler", beta_schedule="scaled_linear"),
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
        scheduler=_scheduler(
            "EulerAncestralDiscreteScheduler", beta_schedule="scaled_linear", timestep_spacing="trailing"
        ),
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
        transformer=transformer, vae=_autoencoder(quick), scheduler=_scheduler("DPMSolverMultistepScheduler")
    )


def stable_diffusion_3(quick: bool) -> diffusers.StableDiffusion3Pipeline:
    """SD3-medium, with its three text encoders."""
    tokenizer = build_tokenizer(["a photo of a bag"])
    one, two, three = ((32, 2, 2), (32, 2, 2), 64) if quick else ((768, 12, 12), (1280, 32, 20), 4096)
    layers, heads, width = (2, 2, 16) if quick else (24, 24, 64)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=16 if quick else 128, patch_size=2, in_channels=16, out_channels=16, num_layers=layers,
        attention_head_dim=width, num_attention_heads=heads, joint_attention_dim=three,
        caption_projection_dim=heads * width, pooled_projection_dim=one[0] + two[0],
        pos_embed_max_size=16 if quick else 192,
    )  # fmt: skip
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer, scheduler=_scheduler("FlowMatchEulerDiscreteScheduler", shift=3.0),
        vae=_autoencoder(quick, **_SIXTEEN_CHANNELS, scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=_clip(tokenizer, *one, projected=True), tokenizer=tokenizer,
        text_encoder_2=_clip(tokenizer, *two, projected=True), tokenizer_2=tokenizer,
        text_encoder_3=_t5(quick, three), tokenizer_3=_unigram(),
    )  # fmt: skip


def flux_schnell(quick: bool) -> diffusers.FluxPipeline:
    """FLUX.1-schnell."""
    tokenizer = build_tokenizer(["a photo of a bag"])
    one, two = ((32, 2, 2), 64) if quick else ((768, 12, 12), 4096)
    layers, single_layers, heads, width = (1, 1, 2, 16) if quick else (19, 38, 24, 128)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=layers, num_single_layers=single_layers, attention_head_dim=width,
        num_attention_heads=heads, joint_attention_dim=two, pooled_projection_dim=one[0], guidance_embeds=False,
        axes_dims_rope=(4, 4, 8) if quick else (16, 56, 56),
    )  # fmt: skip
    return diffusers.FluxPipeline(
        transformer=transformer, scheduler=_scheduler("FlowMatchEulerDiscreteScheduler", shift=1.0),
        vae=_autoencoder(quick, **_SIXTEEN_CHANNELS, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=_clip(tokenizer, *one), tokenizer=tokenizer,
        text_encoder_2=_t5(quick, two), tokenizer_2=_unigram(),
    )  # fmt: skip


def sana(quick: bool) -> diffusers.SanaPipeline:
    """Sana 1.6B at 1024 pixels, with Gemma 2 2B as its text encoder."""
    layers, heads, width, cross_heads, cross_width, text = (2, 2, 8, 2, 8, 16) if quick else (20, 70, 32, 20, 112, 2304)
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=32, out_channels=32, num_layers=layers, num_attention_heads=heads, attention_head_dim=width,
        num_cross_attention_heads=cross_heads, cross_attention_head_dim=cross_width,
        cross_attention_dim=cross_heads * cross_width, caption_channels=text, mlp_ratio=2.5,
        sample_size=4 if quick else 32, patch_size=1,
    )  # fmt: skip
    channels = (32,) * 6 if quick else (128, 256, 512, 512, 1024, 1024)
    blocks, scales = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3, ((), (), (), (5,), (5,), (5,))
    autoencoder = diffusers.AutoencoderDC(
        in_channels=3, latent_channels=32, attention_head_dim=8 if quick else 32, encoder_block_types=blocks,
        decoder_block_types=blocks, encoder_block_out_channels=channels, decoder_block_out_channels=channels,
        encoder_layers_per_block=(1,) * 6 if quick else (2, 2, 2, 3, 3, 3),
        decoder_layers_per_block=(1,) * 6 if quick else (3,) * 6, encoder_qkv_multiscales=scales,
        decoder_qkv_multiscales=scales, downsample_block_type="conv", upsample_block_type="interpolate",
        decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41407,
    )  # fmt: skip
    config = transformers.Gemma2Config(
        vocab_size=256 if quick else 256_000, hidden_size=text, intermediate_size=32 if quick else 9216,
        num_hidden_layers=1 if quick else 26, num_attention_heads=2 if quick else 8,
        num_key_value_heads=1 if quick else 4, head_dim=8 if quick else 256,
    )  # fmt: skip
    return diffusers.SanaPipeline(
        transformer=transformer, vae=autoencoder, tokenizer=_unigram(), text_encoder=transformers.Gemma2Model(config),
        scheduler=_scheduler(
            "DPMSolverMultistepScheduler",
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    )  # fmt: skip


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
    "sd3_medium": (stable_diffusion_3, {"size": 1024, "stored_size": 1024, "steps": 28, "guidance": 3.0}),
    "flux_schnell": (flux_schnell, {"size": 1024, "stored_size": 1024, "steps": 4, "guidance": 0.0}),
    "sana": (sana, {"size": 1024, "stored_size": 1024, "steps": 20, "guidance": 4.5}),
}  # fmt: skip


# Models of which a GPU holds one copy only. The pipelines of other people are not measured with them.
LARGE = {"sd3_medium", "flux_schnell", "sana"}
BATCH_SIZES = {"embedded": 100, "sd3_medium": 8, "flux_schnell": 8, "sana": 8}  # the others: 32
# Of the autoencoders of SD3 and FLUX.
_SIXTEEN_CHANNELS = {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}


def _autoencoder(quick: bool, **settings) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=(32, 32, 32, 32) if quick else (128, 256, 512, 512), layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, sample_size=512,
        **{"latent_channels": 4, "scaling_factor": 0.18215} | settings,
    )  # fmt: skip


def _clip(tokenizer, width: int, layers: int, heads: int, projected: bool = False):
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=4 * width, projection_dim=width,
        num_hidden_layers=layers, num_attention_heads=heads, max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return (transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel)(config)


def _scheduler(name: str, **options) -> diffusers.SchedulerMixin:
    with torch.device("cpu"):  # it computes with its tables at once
        return getattr(diffusers, name)(**options)


def _t5(quick: bool, width: int) -> transformers.T5EncoderModel:
    """T5 1.1 XXL, the text encoder of SD3 and FLUX."""
    layers, heads, key_width, inner_width = (1, 2, 8, 64) if quick else (24, 64, 64, 10240)
    config = transformers.T5Config(
        vocab_size=256 if quick else 32128, d_model=width, d_kv=key_width, d_ff=inner_width, num_layers=layers,
        num_heads=heads, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return transformers.T5EncoderModel(config)


def _unigram() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer of the kind that T5 and Gemma have, with few words. The prompt is padded to the same length."""
    learner = Tokenizer(models.Unigram())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False)
    learner.train_from_iterator(["a photo of a bag"] * 20, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=learner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
