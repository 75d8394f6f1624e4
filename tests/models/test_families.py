"""All families use the same loading and sampling code, and an image depends only on its row."""

import json
import shutil
import weakref

import diffusers
import families
import numpy as np
import pandas as pd
import pytest
import torch

from synaug.config import Adapter
from synaug.generation import sampling
from synaug.generation.batch_size import find_batch_size
from synaug.generation.pipelines import _EncodeOnce, check_rows, load_pipeline
from synaug.generation.sampling import sample
from synaug.generation.shards import generate_shard
from synaug.plan.checkpoints import adapters_json, model_version
from synaug.plan.model_family import read_family
from synaug.plan.schedulers import check_scheduler
from synaug.runtime.errors import UserError


def images(pipeline, rows: pd.DataFrame, batch_size: int = 2, sources=None) -> dict[str, bytes]:
    pixels_of = {}
    for batch, pixels in sample(pipeline, rows, batch_size, sources):
        assert pixels.dtype == np.uint8 and pixels.shape[1:3] == (12, 12)
        pixels_of |= {name: image.tobytes() for name, image in zip(batch["image_id"], pixels, strict=True)}
    return pixels_of


@pytest.mark.parametrize("family", families.FAMILIES)
def test_an_image_depends_on_its_row_alone(planned, family):
    rows = planned(family)
    first = images(load_pipeline(rows.iloc[0], "cpu"), rows)
    assert len(set(first.values())) == 5, "same images for different seeds"
    # Other images in the batch, other positions, a padded batch, a pipeline that is loaded again.
    again = images(load_pipeline(rows.iloc[0], "cpu"), rows.iloc[[3, 0, 2]])
    assert again == {name: first[name] for name in "dac"}


@pytest.mark.parametrize("family", sorted(set(families.FAMILIES) - {"dit"}))
def test_every_prompt_is_encoded_once(planned, family, monkeypatch):
    rows = planned(family)
    pipeline = load_pipeline(rows.iloc[0], "cpu")
    encode, calls = pipeline.encode_prompt.encode, []
    monkeypatch.setattr(
        pipeline.encode_prompt, "encode", lambda **arguments: calls.append(arguments["prompt"]) or encode(**arguments)
    )
    images(pipeline, rows)
    assert sorted(calls) == [["a photo of a cat"], ["a photo of a dog"]]


def test_embeddings_that_are_lists_are_joined_too():
    """Z-Image gives a list with one tensor for each prompt, and an empty one without a negative prompt."""

    def encode(prompt, negative_prompt=None):
        return [torch.full((3, 2), float(len(text))) for text in prompt], [], torch.zeros(5, 3)

    embeddings, negative, position_ids = _EncodeOnce(encode)(prompt=["a", "bb", "a"])
    assert [float(embedding[0, 0]) for embedding in embeddings] == [1, 2, 1]
    assert negative == [] and position_ids.shape == (5, 3)


@pytest.mark.parametrize("family", ["stable diffusion", "sdxl", "sd3", "pixart", "sana"])
def test_negative_prompt_and_guidance_change_the_image(planned, family):
    rows = planned(family)
    pipeline = load_pipeline(rows.iloc[0], "cpu")
    plain = images(pipeline, rows)
    assert images(pipeline, rows.assign(negative_prompt="blurry")) != plain
    assert images(pipeline, rows.assign(guidance=1.0)) != plain


def test_rows_with_different_steps_and_guidance_give_the_same_images_together_and_alone(planned):
    rows = planned("stable diffusion", steps=[2, 3, 2, 3, 2], guidance=[1.0, 1.0, 2.0, 2.0, 3.0])
    pipeline = load_pipeline(rows.iloc[0], "cpu")
    together = images(pipeline, rows)
    alone = {}
    for i in range(len(rows)):
        alone |= images(pipeline, rows.iloc[[i]])
    assert together == alone


def test_a_scheduler_by_name_is_used(planned):
    rows = planned("stable diffusion")
    other = planned("stable diffusion", scheduler="UniPCMultistepScheduler", steps=3)
    pipeline = load_pipeline(other.iloc[0], "cpu")
    assert type(pipeline.scheduler).__name__ == "UniPCMultistepScheduler"
    assert images(pipeline, other) != images(load_pipeline(rows.iloc[0], "cpu"), rows.assign(steps=3))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_makes_almost_the_same_images(planned, dtype):
    rows = planned("stable diffusion")
    half = rows.assign(dtype=dtype)
    exact = images(load_pipeline(rows.iloc[0], "cpu"), rows)
    close = images(load_pipeline(half.iloc[0], "cpu"), half)
    for name in exact:
        full, rounded = (np.frombuffer(data, np.uint8).astype(float) for data in (exact[name], close[name]))
        assert np.abs(full - rounded).mean() < 12


# ---------------------------------------------------------------------------------------------- noise of schedulers

SCHEDULERS = sorted(name for name in dir(diffusers) if name.endswith("Scheduler"))


def assert_images_depend_on_their_rows_alone(rows: pd.DataFrame) -> None:
    """Sample `rows` twice: with another global random state, another order and other neighbours."""
    torch.manual_seed(1)
    first = images(load_pipeline(rows.iloc[0], "cpu"), rows)
    torch.manual_seed(2)
    again = images(load_pipeline(rows.iloc[0], "cpu"), rows.iloc[[3, 0, 2]])
    assert again == {name: first[name] for name in "dac"}
    assert len(set(first.values())) > 1


def test_schedulers_are_found():
    assert {"DDPMScheduler", "EulerAncestralDiscreteScheduler", "LCMScheduler", "TCDScheduler"} <= set(SCHEDULERS)


def test_the_config_may_name_every_one_of_them():
    for name in SCHEDULERS:
        check_scheduler(name)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_with_every_scheduler_an_image_of_dit_depends_on_its_row_alone_or_is_refused(planned, scheduler, guidance):
    rows = planned("dit", scheduler=scheduler, guidance=guidance, steps=5)  # PNDMScheduler needs more than three
    try:
        assert_images_depend_on_their_rows_alone(rows)
    except UserError as error:
        assert "generation" in str(error) and "\n" not in str(error)
        assert scheduler not in NOISY


# Schedulers that add noise in DiT: they work, and are not refused.
NOISY = [
    "CMStochasticIterativeScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "EulerAncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "LCMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
]


@pytest.mark.parametrize(
    ("family", "scheduler"),
    [
        ("dit", {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}),
        ("stable diffusion", {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}),
        ("stable diffusion", {"_class_name": "EulerAncestralDiscreteScheduler"}),
        ("pixart", {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}),
        ("sana", {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}),
        ("sd3", {"_class_name": "FlowMatchEulerDiscreteScheduler", "stochastic_sampling": True}),
        ("flux", {"_class_name": "FlowMatchEulerDiscreteScheduler", "stochastic_sampling": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value.values())),
)
def test_with_a_noisy_scheduler_of_the_checkpoint_an_image_depends_on_its_row_alone(
    planned, checkpoint, tmp_path, family, scheduler
):
    folder = shutil.copytree(checkpoint(family), tmp_path / "model")
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | scheduler))
    index = folder / "model_index.json"
    parts = json.loads(index.read_text()) | {"scheduler": ["diffusers", scheduler["_class_name"]]}
    index.write_text(json.dumps(parts))
    rows = planned(family, model=str(folder), model_version=model_version(str(folder), None), steps=4)
    assert_images_depend_on_their_rows_alone(rows)


@pytest.mark.parametrize("family", ["stable diffusion", "dit"])
def test_the_brownian_motions_of_dpm_solver_sde_belong_to_their_images(planned, family):
    pytest.importorskip("torchsde")
    assert_images_depend_on_their_rows_alone(planned(family, scheduler="DPMSolverSDEScheduler", steps=4))


# ------------------------------------------------------------------------------------ settings without the usual effect


@pytest.mark.parametrize(
    ("family", "settings", "complaint"),
    [
        ("stable diffusion", {"guidance": [2.0, 2.0, 1.0, 2.0, 2.0]}, r"'blurry' has no effect at .*guidance 1;"),
        ("sdxl", {"guidance": 0.0, "size": 32}, r"'blurry' has no effect at generation\.guidance 0;"),
        ("pixart", {"guidance": 1.0}, r"'blurry' has no effect at generation\.guidance 1;"),
        ("sana", {"guidance": 1.0}, r"'blurry' has no effect at generation\.guidance 1;"),
        ("sd3", {"guidance": 1.0}, r"'blurry' has no effect at generation\.guidance 1;"),
        ("flux", {"guidance": 3.5}, r"'blurry' has no effect: this model has no classifier-free guidance"),
        ("flux dev", {"guidance": 3.5}, r"'blurry' has no effect: this model has no classifier-free guidance"),
        ("lcm", {"guidance": 8.5}, r"'blurry' has no effect: this model has no classifier-free guidance"),
    ],
)
def test_a_negative_prompt_without_effect_is_refused_before_sampling(planned, family, settings, complaint):
    rows = planned(family, **{"negative_prompt": "blurry"} | settings)
    with pytest.raises(UserError, match=complaint):
        check_rows(load_pipeline(rows.iloc[0], "cpu"), rows)


@pytest.mark.parametrize(
    ("family", "limit"),
    [("stable diffusion", 24), ("flux", 512), ("pixart", 120), ("sana", 300)],
)
def test_a_prompt_that_would_be_cut_is_refused_before_sampling(planned, family, limit):
    """FLUX has a CLIP of 24 tokens too, but its T5 reads 512."""
    rows = planned(family)
    pipeline = load_pipeline(rows.iloc[0], "cpu")
    check_rows(pipeline, rows.assign(prompt="cat " * (limit // 6)))
    check_rows(pipeline, rows.assign(truncate=True, prompt="cat " * 3 * limit))
    with pytest.raises(UserError, match=rf"prompts: 'cat .*, and the text encoder of .* reads {limit}; the rest"):
        check_rows(pipeline, rows.assign(prompt="cat " * 3 * limit))


def test_a_word_of_textual_inversion_counts_as_many_tokens_as_it_has(planned, tmp_path):
    from safetensors.torch import save_file

    save_file({"<mine>": torch.ones(30, 16)}, tmp_path / "word.safetensors")
    rows = planned("stable diffusion", prompt="a <mine>")
    taught = with_adapter(rows, kind="textual_inversion", model=str(tmp_path), token="<mine>")
    with pytest.raises(UserError, match="'a <mine>' has 33 tokens"):
        check_rows(load_pipeline(taught.iloc[0], "cpu"), taught)


def test_a_shard_with_a_prompt_that_would_be_cut_is_not_sampled(plan, tmp_path):
    with pytest.raises(UserError, match="reads 24; the rest would be ignored"):
        generate_shard(plan.assign(prompt="far " * 30), 4, tmp_path / "shard.parquet", tmp_path / "work", [], 1)


def test_a_shard_with_such_a_negative_prompt_is_not_sampled(plan, tmp_path):
    with pytest.raises(UserError, match="'blur' has no effect"):
        generate_shard(plan.assign(guidance=1.0), 4, tmp_path / "shard.parquet", tmp_path / "work", [], 1)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_config_files_and_the_loaded_pipeline_give_the_same_family(planned, checkpoint, family):
    """Guidance changes the number of evaluations as the family says."""
    known = read_family(str(checkpoint(family)), None)
    rows = planned(family, guidance=1.0)
    pipeline = load_pipeline(rows.iloc[0], "cpu")
    check_rows(pipeline, rows.assign(size=64))
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    evaluated = []
    denoiser.register_forward_hook(lambda module, args, output: evaluated.append(len(output[0])))
    plain = images(pipeline, rows)
    without = sum(evaluated)
    evaluated.clear()
    guided = images(pipeline, rows.assign(guidance=3.0))
    assert sum(evaluated) == without * (2 if known.guidance == "classifier-free" else 1)
    assert (guided == plain) == (known.guidance == "none")


def test_guidance_2_of_a_model_that_takes_it_as_an_input_is_logged(planned, caplog):
    rows = planned("lcm")
    check_rows(load_pipeline(rows.iloc[0], "cpu"), rows)
    assert "an input of this model" in caplog.text


@pytest.mark.parametrize("pipeline_kind", ["text-to-image", "image-to-image"])
@pytest.mark.parametrize(("original_size", "told"), [(0, 16), (16, 16), (32, 32)])
def test_sdxl_is_told_the_original_size(planned, sources, pipeline_kind, original_size, told):
    rows = planned("sdxl", original_size=original_size, pipeline=pipeline_kind, steps=4)
    if pipeline_kind == "image-to-image":
        rows = rows.assign(strength=0.5, source_image="s")
    pipeline = load_pipeline(rows.iloc[0], "cpu")
    conditions = []
    pipeline.unet.register_forward_pre_hook(
        lambda module, args, kwargs: conditions.append(kwargs["added_cond_kwargs"]["time_ids"]), with_kwargs=True
    )
    images(pipeline, rows, sources=sources)
    # original height and width, top and left of the crop, target height and width: with and without the prompt
    assert {tuple(row) for row in torch.cat(conditions).tolist()} == {(told, told, 0, 0, 16, 16)}


def test_sdxl_below_the_size_of_its_training_needs_the_original_size(planned):
    rows = planned("sdxl")
    pipeline = load_pipeline(rows.iloc[0], "cpu")
    with pytest.raises(UserError, match=r"16 is less than the 32 pixels .*add generation\.original_size: 32 \(or 16"):
        check_rows(pipeline, rows)
    for settings in ({"original_size": 32}, {"original_size": 16}, {"size": 32}, {"size": 64}):
        check_rows(pipeline, rows.assign(**settings))


def test_an_original_size_for_a_model_without_one_is_one_line(planned):
    rows = planned("stable diffusion", original_size=32)
    with pytest.raises(UserError, match=r"generation\.original_size: StableDiffusionPipeline has no such input"):
        images(load_pipeline(rows.iloc[0], "cpu"), rows)


# ---------------------------------------------------------------------------------------------- image-to-image


@pytest.fixture(scope="session")
def sources() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.integers(0, 256, (16, 16, 3), dtype=np.uint8) for name in ("s", "t")}


@pytest.mark.parametrize("family", ["stable diffusion", "sdxl", "sd3", "flux"])
def test_image_to_image_starts_from_the_real_image(planned, sources, family):
    rows = planned(family, pipeline="image-to-image", strength=0.5, source_image=["s", "t", "s", "t", "s"], steps=4)
    pipeline = load_pipeline(rows.iloc[0], "cpu")
    before = images(pipeline, rows, sources=sources)
    assert images(pipeline, rows.iloc[[4, 1]], sources=sources) == {name: before[name] for name in "eb"}
    swapped = images(pipeline, rows.assign(source_image=["t", "s", "t", "s", "t"]), sources=sources)
    assert all(swapped[name] != before[name] for name in before)
    assert images(pipeline, rows.assign(strength=1.0), sources=sources) != before


# ---------------------------------------------------------------------------------------------- adapters


@pytest.fixture(scope="session")
def lora(checkpoint, tmp_path_factory):
    """A LoRA of the tiny Stable Diffusion, saved by diffusers."""
    peft = pytest.importorskip("peft")
    import diffusers
    from diffusers.utils import convert_state_dict_to_diffusers

    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(checkpoint("stable diffusion"))
    torch.manual_seed(1)
    pipeline.unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights="gaussian"))
    for name, weight in pipeline.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=2.0)
    folder = tmp_path_factory.mktemp("lora")
    layers = convert_state_dict_to_diffusers(peft.get_peft_model_state_dict(pipeline.unet))
    diffusers.StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    return folder


def with_adapter(rows: pd.DataFrame, **settings) -> pd.DataFrame:
    return rows.assign(adapters=adapters_json([Adapter(**settings)]))


def test_lora_changes_the_image_and_scale_0_does_not(planned, lora):
    rows = planned("stable diffusion")
    plain = images(load_pipeline(rows.iloc[0], "cpu"), rows)
    off = with_adapter(rows, kind="lora", model=str(lora), scale=0.0)
    assert images(load_pipeline(off.iloc[0], "cpu"), off) == plain
    on = with_adapter(rows, kind="lora", model=str(lora / "pytorch_lora_weights.safetensors"))
    changed = images(load_pipeline(on.iloc[0], "cpu"), on)
    assert all(changed[name] != plain[name] for name in plain)
    assert images(load_pipeline(on.iloc[0], "cpu"), on.iloc[[2]])["c"] == changed["c"]


def test_an_adapter_that_changed_since_it_was_planned_is_an_error(planned, lora, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = load_file(lora / "pytorch_lora_weights.safetensors")
    save_file(weights, tmp_path / "mine.safetensors")
    rows = with_adapter(planned("stable diffusion"), kind="lora", model=str(tmp_path / "mine.safetensors"))
    save_file({name: weight + 1 for name, weight in weights.items()}, tmp_path / "mine.safetensors")
    with pytest.raises(UserError, match=r"mine\.safetensors: the adapter has changed since the plan was made"):
        load_pipeline(rows.iloc[0], "cpu")


def test_textual_inversion_teaches_a_word(planned, tmp_path):
    from safetensors.torch import save_file

    save_file({"<mine>": torch.full((1, 16), 3.0)}, tmp_path / "word.safetensors")
    rows = planned("stable diffusion", prompt="a photo of a <mine>")
    plain = images(load_pipeline(rows.iloc[0], "cpu"), rows)
    taught = with_adapter(rows, kind="textual_inversion", model=str(tmp_path), token="<mine>")
    changed = images(load_pipeline(taught.iloc[0], "cpu"), taught)
    assert all(changed[name] != plain[name] for name in plain)


def kohya_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A LoRA of the denoiser with the names that kohya-ss/sd-scripts gives."""
    layers = {name: name.partition(".lora.")[0].replace(".", "_") for name in weights}
    return {
        f"lora_{layers[name]}.lora_{'down' if '.lora.down' in name else 'up'}.weight": weight
        for name, weight in weights.items()
    }


def test_a_lora_with_the_names_of_kohya_is_loaded(planned, lora, tmp_path):
    from safetensors.torch import load_file, save_file

    save_file(kohya_names(load_file(lora / "pytorch_lora_weights.safetensors")), tmp_path / "x.safetensors")
    rows = planned("stable diffusion")
    own, kohya = (
        with_adapter(rows, kind="lora", model=str(file))
        for file in (lora / "pytorch_lora_weights.safetensors", tmp_path / "x.safetensors")
    )
    assert images(load_pipeline(kohya.iloc[0], "cpu"), kohya) == images(load_pipeline(own.iloc[0], "cpu"), own)


NO_LORA = {"nothing": (2,)}
OTHER_PART = {
    "transformer.blocks.0.attn.to_q.lora_A.weight": (2, 8),
    "transformer.blocks.0.attn.to_q.lora_B.weight": (8, 2),
}
OTHER_LAYERS = {"unet.other.to_q.lora_A.weight": (2, 8), "unet.other.to_q.lora_B.weight": (8, 2)}
OTHER_TEXT = {"text_encoder.other.q_proj.lora_A.weight": (2, 8), "text_encoder.other.q_proj.lora_B.weight": (8, 2)}


@pytest.mark.parametrize(
    ("family", "kind", "shapes", "reason"),
    [
        ("stable diffusion", "lora", NO_LORA, "Invalid LoRA checkpoint"),
        ("stable diffusion", "lora", OTHER_PART, "has none of its layers"),
        ("stable diffusion", "lora", {}, "has none of its layers"),
        ("stable diffusion", "lora", OTHER_LAYERS, "Target modules"),
        ("stable diffusion", "lora", OTHER_TEXT, ""),
        ("stable diffusion", "lora", "wider", "size mismatch for "),
        ("stable diffusion", "lora", "deeper", "the model has 16 of its 20 layers"),
        ("stable diffusion", "lora", "deeper, named as kohya does", "the model has 16 of its 20 layers"),
        ("sd3", "lora", OTHER_LAYERS, "has none of its layers"),
        ("dit", "lora", OTHER_LAYERS, ""),
        ("stable diffusion", "textual_inversion", {"<mine>": (1, 7)}, ""),
    ],
)
def test_an_adapter_that_does_not_fit_is_one_line_with_its_file_the_model_and_advice(
    planned, lora, tmp_path, family, kind, shapes, reason
):
    from safetensors.torch import load_file, save_file

    pytest.importorskip("peft")
    made = load_file(lora / "pytorch_lora_weights.safetensors")
    if shapes == "wider":  # for a model with wider layers
        weights = {
            name: torch.zeros([side if side == 2 else side + 3 for side in weight.shape])  # 2 is the rank
            for name, weight in made.items()
        }
    elif isinstance(shapes, str):  # for a model with one block more
        first = {name: weight for name, weight in made.items() if "mid_block" in name}
        weights = made | {name.replace("mid_block", "down_blocks.9"): weight.clone() for name, weight in first.items()}
        weights = kohya_names(weights) if "kohya" in shapes else weights
    else:
        weights = {name: torch.zeros(shape) for name, shape in shapes.items()}
    file = tmp_path / "x.safetensors"
    save_file(weights, file)
    settings = {"token": "<mine>"} if kind == "textual_inversion" else {}
    row = with_adapter(planned(family), kind=kind, model=str(file), **settings).iloc[0]
    with pytest.raises(UserError) as caught:
        load_pipeline(row, "cpu")
    message = str(caught.value)
    assert message.startswith(f"generation.adapters: {file} cannot be loaded into {row['model']} (")
    assert reason in message and "\n" not in message
    assert message.endswith(f"; choose an adapter of kind {kind} that was made for this model")


@pytest.mark.parametrize(
    ("files", "revision", "complaint"),
    [(None, None, "its revision"), ([], None, "found: none"), (["a", "b"], None, "`file` must name it")],
)
def test_a_missing_adapter_is_found_when_planning(tmp_path, files, revision, complaint):
    folder = tmp_path / "adapter"
    if files is not None:
        folder.mkdir()
        for name in files:
            (folder / f"{name}.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match=complaint):
        adapters_json([Adapter(kind="lora", model=str(folder), revision=revision)])


# ---------------------------------------------------------------------------------------------- errors of loading


def test_a_hub_model_without_a_network_is_one_line(planned):
    rows = planned("stable diffusion", model="someone/some-model", model_version="0123456789")
    with pytest.raises(UserError, match=r"someone/some-model \(revision 0123456789.*check the connection") as caught:
        load_pipeline(rows.iloc[0], "cpu")
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(checkpoint, planned, tmp_path):
    folder = shutil.copytree(checkpoint("stable diffusion"), tmp_path / "pickled")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    rows = planned("stable diffusion", model=str(folder), model_version=model_version(str(folder), None))
    with pytest.raises(UserError, match=r"cannot be loaded: .*safetensors") as caught:
        load_pipeline(rows.iloc[0], "cpu")
    assert "\n" not in str(caught.value)


def test_a_scheduler_that_does_not_exist_is_one_line(planned):
    rows = planned("stable diffusion", scheduler="BestScheduler")
    with pytest.raises(UserError, match=r"generation\.scheduler: diffusers has no scheduler 'BestScheduler'"):
        load_pipeline(rows.iloc[0], "cpu")


@pytest.mark.parametrize(("family", "size"), [("sana", 24), ("dit", 32), ("flux", 20)])
def test_a_size_that_the_model_cannot_make_is_one_line(planned, family, size):
    rows = planned(family).assign(size=size)
    with pytest.raises(UserError, match=r"divisible by 32|makes 16 x 16|makes \d+ x \d+"):
        images(load_pipeline(rows.iloc[0], "cpu"), rows)


@pytest.mark.parametrize("prompt", ["a photo of a cat", "1000", "-1"])
def test_a_prompt_that_is_no_class_of_the_model_is_one_line(planned, prompt):
    rows = planned("dit", prompt=prompt)
    with pytest.raises(UserError, match=r"is no class of the model; it knows words such as cat.*0 to 999"):
        images(load_pipeline(rows.iloc[0], "cpu"), rows)


@pytest.mark.parametrize("family", ["lcm", "dit"])
def test_a_negative_prompt_for_a_model_without_one_is_one_line(planned, family):
    rows = planned(family).assign(negative_prompt="blurry")
    with pytest.raises(UserError, match=r"prompts\.negative"):
        images(load_pipeline(rows.iloc[0], "cpu"), rows)


# ---------------------------------------------------------------------------------------------- memory


@pytest.fixture
def little_memory(monkeypatch):
    """A function: make batches with more than `images` images fail like a device that is out of memory."""
    real = sampling.call_settings

    def little_memory(images: int, error: Exception | None = None):
        def limited(pipeline, rows, sources=None):
            if len(rows) > images:
                raise error or torch.OutOfMemoryError("CUDA out of memory")
            return real(pipeline, rows, sources)

        monkeypatch.setattr(sampling, "call_settings", limited)

    return little_memory


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
     RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
     RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
     RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
     RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED")],
)  # fmt: skip
def test_out_of_memory_halves_the_batch_and_goes_on(planned, little_memory, error):
    rows = planned("stable diffusion")
    pipeline = load_pipeline(rows.iloc[0], "cpu")
    expected = images(pipeline, rows, batch_size=2)
    little_memory(2, error)
    sizes = [batch["batch_size"].unique().tolist() for batch, _ in sample(pipeline, rows, 5)]
    assert sizes == [[2], [2], [2]]
    assert images(pipeline, rows, batch_size=4) == expected


def test_memory_is_given_back_only_once_the_failed_batch_is_gone(planned, monkeypatch):
    rows = planned("stable diffusion")
    pipeline = load_pipeline(rows.iloc[0], "cpu")
    real, tensors, in_memory = sampling.call_settings, [], []

    def limited(pipeline, rows, sources=None):
        tensor = torch.zeros(1)
        if len(rows) > 2:
            tensors.append(weakref.ref(tensor))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(pipeline, rows, sources)

    monkeypatch.setattr(sampling, "call_settings", limited)
    monkeypatch.setattr(sampling, "free_memory", lambda: in_memory.append(tensors[-1]() is not None))
    list(sample(pipeline, rows, 5))
    assert in_memory == [False]


def test_out_of_memory_with_one_image_is_one_line(planned, little_memory):
    rows = planned("stable diffusion")
    little_memory(0)
    with pytest.raises(UserError, match="out of memory with one image of 16 pixels"):
        images(load_pipeline(rows.iloc[0], "cpu"), rows)


@pytest.mark.parametrize("text", ["something else", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"])
def test_another_error_does_not_count_as_out_of_memory(planned, little_memory, text):
    rows = planned("stable diffusion")
    little_memory(0, RuntimeError(text))
    with pytest.raises(RuntimeError, match=text):
        images(load_pipeline(rows.iloc[0], "cpu"), rows)


def test_the_trial_finds_a_batch_size_that_fits(planned, little_memory):
    rows = planned("stable diffusion")
    pipeline = load_pipeline(rows.iloc[0], "cpu")
    assert find_batch_size(pipeline, rows) in (1, 2, 4, 8)
    little_memory(2)
    assert find_batch_size(pipeline, rows) in (1, 2)


def test_adapters_are_readable_in_the_plan(lora):
    (adapter,) = json.loads(adapters_json([Adapter(kind="lora", model=str(lora), scale=0.5)]))
    assert adapter["kind"] == "lora" and adapter["scale"] == 0.5 and adapter["version"].startswith("sha256:")
