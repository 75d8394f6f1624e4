"""Scheduler options, variants of weights, attention backends: they are used, or refused in one line before sampling."""

import json
import shutil

import diffusers
import pytest
import torch
from test_families import images

from synaug.commands.regenerate import find_rows, regenerate_images
from synaug.generation.pipelines import load_pipeline
from synaug.generation.shards import generate_shard
from synaug.images.codec import decode_image
from synaug.plan.checkpoints import model_version
from synaug.runtime.errors import UserError


def refusal(rows, **settings) -> str:
    with pytest.raises(UserError) as error:
        load_pipeline(rows.iloc[0], "cpu", **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def for_shard(rows, **settings):
    """The rows with the other columns that a shard has."""
    others = {"label": 0, "label_name": "a", "group": "", "index": 0, "sampler_version": 3, "licence": ""}
    return rows.assign(**others, **settings)


def scheduler(name: str, **options) -> str:
    return json.dumps({"name": name, **options}, sort_keys=True)


# ---------------------------------------------------------------------------------------------- options


def test_options_of_a_scheduler_are_used_and_change_the_image(planned):
    trailing, leading = (
        planned("stable diffusion", scheduler=scheduler("EulerDiscreteScheduler", timestep_spacing=spacing))
        for spacing in ("trailing", "leading")
    )
    pipeline = load_pipeline(trailing.iloc[0], "cpu")
    assert type(pipeline.scheduler).__name__ == "EulerDiscreteScheduler"
    assert images(pipeline, trailing) != images(load_pipeline(leading.iloc[0], "cpu"), leading)
    assert pipeline.scheduler.timesteps[0] == 999  # one step of a Turbo model starts from pure noise


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ({"spacing": "trailing"}, "EulerDiscreteScheduler has no option 'spacing'; did you mean 'timestep_spacing'?"),
        ({"timestep_spacing": "none"}, "timestep_spacing of EulerDiscreteScheduler is 'none'; choose one of"),
        ({"beta_schedule": "none"}, "EulerDiscreteScheduler does not work with this checkpoint (none is not"),
    ],
)
def test_a_wrong_option_is_refused_before_sampling(planned, option, complaint):
    rows = planned("stable diffusion", scheduler=scheduler("EulerDiscreteScheduler", **option))
    assert f"generation.scheduler: {complaint}" in refusal(rows)


def test_regenerate_makes_an_image_with_options_and_a_variant_again(planned, half_checkpoint, tmp_path):
    rows = planned("stable diffusion", **half_checkpoint, variant="fp16")
    rows = for_shard(rows, scheduler=scheduler("EulerDiscreteScheduler", timestep_spacing="trailing"))
    generate_shard(rows, 2, tmp_path / "e" / "shards" / f"{'0' * 16}.parquet", tmp_path / "work", [], 1)
    (outcome,) = regenerate_images(find_rows(["a"], tmp_path / "e"), "cpu")
    assert outcome.status == "same"


# ---------------------------------------------------------------------------------------------- flow matching

FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("stable diffusion", "FlowMatchEulerDiscreteScheduler"),
        ("dit", "FlowMatchLCMScheduler"),
        ("pixart", scheduler("DPMSolverMultistepScheduler", use_flow_sigmas=True)),
        ("sd3", "DPMSolverMultistepScheduler"),
        ("sd3", scheduler("UniPCMultistepScheduler", use_flow_sigmas=True)),
        ("flux", "EulerDiscreteScheduler"),
        ("sana", "EulerDiscreteScheduler"),
        ("sana", scheduler("DPMSolverMultistepScheduler", use_flow_sigmas=False)),
    ],
)
def test_a_scheduler_for_another_kind_of_model_is_refused_before_sampling(planned, family, text):
    message = refusal(planned(family, scheduler=text))
    assert "generation.scheduler" in message and "flow" in message and "diffusion" in message


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("sd3", scheduler("DPMSolverMultistepScheduler", **FLOW, flow_shift=3.0)),
        ("sd3", scheduler("FlowMatchEulerDiscreteScheduler", shift=2.0)),
        ("flux", scheduler("FlowMatchEulerDiscreteScheduler", use_karras_sigmas=True)),
        ("sana", "UniPCMultistepScheduler"),
        ("sana", scheduler("DPMSolverMultistepScheduler", flow_shift=2.0)),
        ("sana", "FlowMatchEulerDiscreteScheduler"),
    ],
)
def test_another_flow_scheduler_is_used(planned, family, text):
    rows = planned(family, scheduler=text, steps=3)
    other = images(load_pipeline(rows.iloc[0], "cpu"), rows)
    rows = planned(family, steps=3)
    assert len(set(other.values())) == 5
    assert other != images(load_pipeline(rows.iloc[0], "cpu"), rows)


# ---------------------------------------------------------------------------------------------- variants


@pytest.fixture(scope="session")
def half_checkpoint(checkpoint, tmp_path_factory) -> dict:
    """Settings of a checkpoint that has a variant fp16, with other weights, beside the usual files."""
    folder = shutil.copytree(checkpoint("stable diffusion"), tmp_path_factory.mktemp("variant") / "model")
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    torch.nn.init.normal_(pipeline.unet.conv_in.weight, generator=torch.Generator().manual_seed(1))
    pipeline.save_pretrained(folder, variant="fp16")
    return {"model": str(folder), "model_version": model_version(str(folder), None)}


def test_the_weights_of_the_variant_are_read(planned, half_checkpoint):
    plain = planned("stable diffusion", **half_checkpoint)
    half = plain.assign(variant="fp16")
    usual = planned("stable diffusion")
    first = images(load_pipeline(plain.iloc[0], "cpu"), plain)
    assert first == images(load_pipeline(usual.iloc[0], "cpu"), usual)
    assert first != images(load_pipeline(half.iloc[0], "cpu"), half)


def test_a_shard_with_and_without_the_variant_loads_both(planned, half_checkpoint, tmp_path):
    rows = planned("stable diffusion", **half_checkpoint, variant=["fp16", "", "fp16", "", "fp16"])
    rows = for_shard(rows, seed=1, prompt="a")
    generate_shard(rows, 2, tmp_path / "e" / "shards" / f"{'0' * 16}.parquet", tmp_path / "work", [], 1)
    stored = find_rows(list("abcde"), tmp_path / "e").set_index("image_id")["data"]
    pixels = {name: decode_image(data, 12, "rgb").tobytes() for name, data in stored.items()}
    assert pixels["a"] == pixels["c"] == pixels["e"] != pixels["b"] == pixels["d"]


def test_a_variant_that_does_not_exist_is_refused(planned, half_checkpoint):
    rows = planned("stable diffusion", **half_checkpoint, variant="ema")
    assert refusal(rows).endswith("holds no weights of the variant 'ema'; set it to null or fp16")


def test_a_variant_that_a_hub_model_does_not_have_is_one_line(planned, monkeypatch):
    def refuse(model, **settings):
        assert settings["variant"] == "fp16"
        raise ValueError(
            "You are trying to load the model files of the `variant=fp16`, but no such files are available."
        )

    monkeypatch.setattr(diffusers.DiffusionPipeline, "load_config", lambda model, **settings: {})
    monkeypatch.setattr(diffusers.AutoPipelineForText2Image, "from_pretrained", refuse)
    rows = planned("stable diffusion", model="someone/model", model_version="abc", variant="fp16")
    message = refusal(rows)
    assert message.startswith("generation.variant: someone/model (revision abc) cannot be loaded: You are trying")
    assert message.endswith("choose another variant, or null")


# ---------------------------------------------------------------------------------------------- attention


def test_an_attention_backend_is_used_until_another_model_is_loaded(planned):
    from diffusers.models.attention_dispatch import AttentionBackendName

    rows = planned("flux")
    usual = images(load_pipeline(rows.iloc[0], "cpu"), rows)
    pipeline = load_pipeline(rows.iloc[0], "cpu", attention="_native_math")
    backends = {module.processor._attention_backend for module in attention_modules(pipeline)}
    assert backends == {AttentionBackendName._NATIVE_MATH}
    assert images(pipeline, rows).keys() == usual.keys()
    again = load_pipeline(rows.iloc[0], "cpu")
    assert {module.processor._attention_backend for module in attention_modules(again)} == {AttentionBackendName.NATIVE}
    assert images(again, rows) == usual


def attention_modules(pipeline) -> list:
    return [module for module in pipeline.transformer.modules() if hasattr(module, "processor")]


def test_attention_is_recorded_and_used_by_regenerate(planned, tmp_path):
    rows = for_shard(planned("flux"))
    file = tmp_path / "e" / "shards" / f"{'0' * 16}.parquet"
    generate_shard(rows, 2, file, tmp_path / "work", [], 1, attention="_native_math")
    stored = find_rows(["a"], tmp_path / "e")
    assert stored["libraries"].iloc[0].endswith(", attention _native_math")
    (outcome,) = regenerate_images(stored, "cpu")
    assert outcome.status == "same"


@pytest.mark.parametrize(
    ("family", "backend", "expected"),
    [
        ("stable diffusion", "flash", "flash has no effect on .*: UNet2DConditionModel always uses the attention"),
        ("dit", "flash", "flash has no effect on .*: DiTTransformer2DModel always uses the attention"),
        ("flux", "flash", r"generation\.attention: .*install .flash-attn.*; install the package, or choose another"),
        ("flux", "fast", r"generation\.attention: 'fast': diffusers has no such backend; choose one of flash, "),
    ],
)
def test_an_attention_backend_that_cannot_be_used_is_one_line(planned, family, backend, expected):
    with pytest.raises(UserError, match=expected) as error:
        load_pipeline(planned(family).iloc[0], "cpu", attention=backend)
    assert "\n" not in str(error.value)
