"""All families use the same loading and sampling code, and an image depends only on its row."""

import json

import families
import numpy as np
import pandas as pd
import pytest
import torch

from synaug.config import Adapter
from synaug.generation import sampling
from synaug.generation.batch_size import find_batch_size
from synaug.generation.pipelines import load_pipeline
from synaug.generation.sampling import sample
from synaug.plan.checkpoints import adapters_json
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


def test_weights_that_are_no_lora_are_one_line(planned, tmp_path):
    from safetensors.torch import save_file

    pytest.importorskip("peft")
    save_file({"nothing": torch.zeros(2)}, tmp_path / "x.safetensors")
    rows = with_adapter(planned("stable diffusion"), kind="lora", model=str(tmp_path / "x.safetensors"))
    with pytest.raises(UserError, match=r"generation\.adapters: .*x\.safetensors cannot be loaded") as caught:
        load_pipeline(rows.iloc[0], "cpu")
    assert "\n" not in str(caught.value)


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
    with pytest.raises(UserError, match=r"someone/some-model \(revision 0123456789.*is there a network") as caught:
        load_pipeline(rows.iloc[0], "cpu")
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(checkpoint, planned, tmp_path):
    import shutil

    from synaug.plan.checkpoints import model_version

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
     RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")],
)  # fmt: skip
def test_out_of_memory_halves_the_batch_and_goes_on(planned, little_memory, error):
    rows = planned("stable diffusion")
    pipeline = load_pipeline(rows.iloc[0], "cpu")
    expected = images(pipeline, rows, batch_size=2)
    little_memory(2, error)
    sizes = [batch["batch_size"].unique().tolist() for batch, _ in sample(pipeline, rows, 5)]
    assert sizes == [[2], [2], [2]]
    assert images(pipeline, rows, batch_size=4) == expected


def test_out_of_memory_with_one_image_is_one_line(planned, little_memory):
    rows = planned("stable diffusion")
    little_memory(0)
    with pytest.raises(UserError, match="out of memory with one image of 16 pixels"):
        images(load_pipeline(rows.iloc[0], "cpu"), rows)


def test_another_error_does_not_count_as_out_of_memory(planned, little_memory):
    rows = planned("stable diffusion")
    little_memory(0, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
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
