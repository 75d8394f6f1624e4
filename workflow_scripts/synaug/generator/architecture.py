"""The parts of a small latent diffusion model, in the classes of Stable Diffusion, sized for small images.

The parts are saved in the usual folder layout, and the stock `StableDiffusionPipeline` loads and runs them.
"""

import json
import math

from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
# Vocabulary: 256 bytes, 256 bytes that end a word, and room for the merged words of the captions.
MAX_MERGES = 510
MIN_TOKENS, MAX_TOKENS = 24, 77


def build_tokenizer(captions: list[str]) -> CLIPTokenizer:
    """A byte-level CLIP tokenizer whose merges are learnt from `captions`; any other text is tokenized as bytes.

    `model_max_length` is the length of the longest caption, rounded up to a multiple of 8, between 24 and 77 tokens.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    last_characters = [character + "</w>" for character in alphabet]
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) * 2 + MAX_MERGES,
        initial_alphabet=alphabet,
        # Equally frequent merges are sorted by the numbers of their parts. Without this the library numbers the last
        # characters of words in another order each time.
        special_tokens=last_characters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator([caption.lower() for caption in captions], trainer)
    merges = [tuple(merge) for merge in json.loads(learner.to_str())["model"]["merges"]][:MAX_MERGES]
    # Two merges can give the same word (a+bc, ab+c): the vocabulary holds each token once.
    tokens = list(dict.fromkeys([*alphabet, *last_characters, *("".join(merge) for merge in merges), START, END]))
    tokenizer = CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=merges)
    fit_length(tokenizer, captions, MIN_TOKENS)
    return tokenizer


def fit_length(tokenizer: CLIPTokenizer, captions: list[str], at_least: int) -> None:
    """Set the tokenizer's `model_max_length` by the longest of `captions`, to a multiple of 8 up to 77 tokens."""
    longest = max(len(ids) for ids in tokenizer(captions).input_ids)
    tokenizer.model_max_length = min(MAX_TOKENS, max(at_least, 8 * math.ceil(longest / 8)))


def build_text_encoder(tokenizer: CLIPTokenizer, width: int = 64, layers: int = 2) -> CLIPTextModel:
    """A CLIP text encoder for `tokenizer`, with `layers` layers and `width` channels (a multiple of 16)."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=layers,
            num_attention_heads=max(1, width // 16),
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_autoencoder(size: int, channels: int, width: int = 16, latent_channels: int = 8) -> AutoencoderKL:
    """An autoencoder of `size` x `size` images with `channels` channels.

    The side of its latents is a quarter of `size`, from 128 pixels on an eighth. width: channels at full resolution;
    lower resolutions have twice as many.
    """
    levels = 3 if size < 128 else 4
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        block_out_channels=[width] + [2 * width] * (levels - 1),
        layers_per_block=1,
        latent_channels=latent_channels,
        # One group keeps the relative strength of the channels: grey levels are learnt twice as fast.
        norm_num_groups=1,
        sample_size=size,
        # `normalise_latents` puts the scale into the weights.
        scaling_factor=1.0,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def build_denoiser(latent_size: int, latent_channels: int, text_width: int, width: int = 96) -> UNet2DConditionModel:
    """A U-Net over `latent_size` x `latent_size` latents with cross-attention to text of `text_width` channels.

    It halves the side down to about 4. width: channels of the two outer levels, a multiple of 16; inner levels have
    twice as many. The outermost level has no attention: it costs most and helps least there.
    """
    levels = max(2, round(math.log2(latent_size / 4)) + 1)
    widths = [width, width] + [2 * width] * (levels - 2)
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=["DownBlock2D"] + ["CrossAttnDownBlock2D"] * (levels - 1),
        up_block_types=["CrossAttnUpBlock2D"] * (levels - 1) + ["UpBlock2D"],
        block_out_channels=widths,
        layers_per_block=1,
        cross_attention_dim=text_width,
        # Despite its name this is the number of heads (an old naming error of diffusers).
        attention_head_dim=[max(1, channels // 32) for channels in widths],
        norm_num_groups=16,
        use_linear_projection=True,
        resnet_time_scale_shift="scale_shift",
    )


def build_scheduler() -> DPMSolverMultistepScheduler:
    """The solver saved with the model: second order, and a cosine schedule that ends in pure noise.

    Without zero terminal signal-to-noise ratio (SNR) the model would never be trained on the pure noise that sampling
    starts from. Steps are equal in log-SNR (Lu et al. 2022), with the second order in Heun's form: eight steps equal in
    time lose a quarter of the images' variance, and a classifier trained on them is less accurate (docs/decisions.md).
    """
    return DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        use_lu_lambdas=True,
        solver_type="heun",
        steps_offset=1,  # has no effect with this spacing, but the pipeline warns about 0
    )


def assemble(tokenizer, text_encoder, autoencoder, denoiser) -> StableDiffusionPipeline:
    """The pipeline of the parts and `build_scheduler()`, without safety checker and feature extractor."""
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=denoiser,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
