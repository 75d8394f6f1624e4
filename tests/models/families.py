"""Tiny checkpoints with random weights of common model families, in the layout of the published ones."""

import json
from functools import partial
from pathlib import Path

import diffusers as d
import torch
import transformers as t
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from synaug.generator import architecture

TEXTS = ["a photo of a cat", "a photo of a dog", "blurry", ""]


def save(family: str, folder: Path) -> Path:
    """Save a model of the family to `folder`."""
    torch.manual_seed(0)
    FAMILIES[family]().save_pretrained(folder)
    if family == "dit":  # published checkpoints have the words of the classes here
        index = folder / "model_index.json"
        index.write_text(json.dumps(json.loads(index.read_text()) | {"id2label": {"0": "cat, tabby", "1": "dog"}}))
    return folder


def stable_diffusion():
    """Stable Diffusion 1 and 2; also the base of LCM with a LoRA."""
    tokenizer = architecture.build_tokenizer(TEXTS)
    text_encoder = architecture.build_text_encoder(tokenizer, width=16, layers=1)
    denoiser = architecture.build_denoiser(4, 4, 16, width=32)
    return architecture.assemble(tokenizer, text_encoder, _autoencoder(), denoiser)


def stable_diffusion_xl():
    """SDXL and SDXL-Turbo: two text encoders, pooled embeddings, sizes as a condition."""
    tokenizer = architecture.build_tokenizer(TEXTS)
    unet = d.UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, cross_attention_dim=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8, use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16,
    )  # fmt: skip
    return d.StableDiffusionXLPipeline(
        vae=_autoencoder(), text_encoder=_clip(tokenizer), text_encoder_2=_clip(tokenizer, projected=True),
        tokenizer=tokenizer, tokenizer_2=tokenizer, unet=unet, scheduler=d.EulerAncestralDiscreteScheduler(),
    )  # fmt: skip


def latent_consistency():
    """LCM: few steps, guidance as an input of the denoiser."""
    tokenizer = architecture.build_tokenizer(TEXTS)
    unet = d.UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, cross_attention_dim=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8, time_cond_proj_dim=16,
    )  # fmt: skip
    return d.LatentConsistencyModelPipeline(
        vae=_autoencoder(), text_encoder=_clip(tokenizer), tokenizer=tokenizer, unet=unet, scheduler=d.LCMScheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_3():
    """SD3, saved without its third text encoder, as many people do."""
    tokenizer = architecture.build_tokenizer(TEXTS)
    transformer = d.SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=32, pooled_projection_dim=32,
    )  # fmt: skip
    return d.StableDiffusion3Pipeline(
        vae=_autoencoder(shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip(tokenizer, projected=True), text_encoder_2=_clip(tokenizer, projected=True),
        text_encoder_3=None, tokenizer=tokenizer, tokenizer_2=tokenizer, tokenizer_3=None, transformer=transformer,
        scheduler=d.FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def flux(guidance_embeds: bool = False):
    """FLUX.1-schnell, or with guidance_embeds FLUX.1-dev.

    Returns one set of position ids for the whole batch with the embeddings.
    """
    tokenizer = architecture.build_tokenizer(TEXTS)
    transformer = d.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=16, axes_dims_rope=[4, 4, 8],
        guidance_embeds=guidance_embeds,
    )  # fmt: skip
    return d.FluxPipeline(
        vae=_autoencoder(shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip(tokenizer), tokenizer=tokenizer, text_encoder_2=_t5(), tokenizer_2=_unigram(),
        transformer=transformer, scheduler=d.FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def pixart():
    """PixArt-alpha: T5 with attention masks."""
    transformer = d.PixArtTransformer2DModel(
        sample_size=4, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=3, caption_channels=32,
        in_channels=4, cross_attention_dim=24, out_channels=8, attention_bias=True, num_embeds_ada_norm=1000,
        activation_fn="gelu-approximate", norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6,
    )  # fmt: skip
    return d.PixArtAlphaPipeline(
        tokenizer=_unigram(), text_encoder=_t5(), vae=_autoencoder(), transformer=transformer,
        scheduler=d.DPMSolverMultistepScheduler(),
    )  # fmt: skip


def sana():
    """Sana: a language model as text encoder, another kind of autoencoder."""
    transformer = d.SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=4,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=8,
        sample_size=8,
    )  # fmt: skip
    blocks = ("ResBlock", "EfficientViTBlock")
    autoencoder = d.AutoencoderDC(
        in_channels=3, latent_channels=4, attention_head_dim=2, encoder_block_types=blocks, decoder_block_types=blocks,
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)), encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
        downsample_block_type="conv", upsample_block_type="interpolate", decoder_norm_types="rms_norm",
        decoder_act_fns="silu", scaling_factor=0.41407,
    )  # fmt: skip
    tokenizer = _unigram()
    language_model = t.Gemma2Model(
        t.Gemma2Config(
            vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, head_dim=4, query_pre_attn_scalar=4,
        )
    )  # fmt: skip
    return d.SanaPipeline(
        tokenizer=tokenizer, text_encoder=language_model, vae=autoencoder, transformer=transformer,
        scheduler=d.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
    )  # fmt: skip


def class_conditional():
    """DiT: class numbers instead of text."""
    transformer = d.DiTTransformer2DModel(
        sample_size=4, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4,
        out_channels=8, attention_bias=True, activation_fn="gelu-approximate", num_embeds_ada_norm=1000,
        norm_type="ada_norm_zero", norm_elementwise_affine=False,
    )  # fmt: skip
    # The output layer of an untrained model is zero, and all classes would look the same.
    torch.nn.init.normal_(transformer.proj_out_2.weight, std=0.3)
    return d.DiTPipeline(transformer=transformer, vae=_autoencoder(), scheduler=d.DDIMScheduler())


FAMILIES = {
    "stable diffusion": stable_diffusion,
    "sdxl": stable_diffusion_xl,
    "lcm": latent_consistency,
    "sd3": stable_diffusion_3,
    "flux": flux,
    "flux dev": partial(flux, guidance_embeds=True),
    "pixart": pixart,
    "sana": sana,
    "dit": class_conditional,
}


def _autoencoder(**settings) -> d.AutoencoderKL:
    return d.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3, sample_size=16,
        block_out_channels=[8, 8, 8], norm_num_groups=4, latent_channels=4, **settings,
    )  # fmt: skip


def _clip(tokenizer, projected: bool = False):
    config = t.CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, projection_dim=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=tokenizer.model_max_length, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return (t.CLIPTextModelWithProjection if projected else t.CLIPTextModel)(config)


def _unigram() -> t.PreTrainedTokenizerFast:
    learner = Tokenizer(models.Unigram())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False)
    learner.train_from_iterator(TEXTS * 5, trainer)
    return t.PreTrainedTokenizerFast(
        tokenizer_object=learner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=24
    )


def _t5() -> t.T5EncoderModel:
    return t.T5EncoderModel(
        t.T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0)
    )
