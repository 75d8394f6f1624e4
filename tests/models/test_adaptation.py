"""An adapter is trained for every supported family through its real loading code, and is an ordinary adapter then."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DiffusionPipeline, EDMDPMSolverMultistepScheduler
from PIL import Image
from safetensors import safe_open

from generator import adapt_generator
from synaug.config import Adaptation, Adapter, Prompts
from synaug.generation.pipelines import load_pipeline
from synaug.generation.sampling import sample
from synaug.generator import adapt, adapt_families
from synaug.generator.adapt import LoraAdapter, drawn_images, train_adapter
from synaug.generator.adapt_data import encode_images, read_training_images
from synaug.generator.output_folder import check_adapter_folder
from synaug.generator.train_autoencoder import encode
from synaug.manifests import read_manifest, write_manifest
from synaug.plan.checkpoints import adapters_json, model_version
from synaug.runtime.errors import UserError

pytest.importorskip("peft")

FAMILIES = ["stable diffusion", "sdxl", "sd3"]
TEMPLATES = ["a photo of a {label}", "{label}"]


@pytest.fixture
def real(tmp_path, pngs):
    """A function: {class: number of training images} to the manifest `real`, with a test and an unusable image each."""

    def real(counts: dict[str, int]) -> str:
        rows = [
            (name, label, split, usable)
            for label, (name, count) in enumerate(counts.items())
            for split, usable in [("train", True)] * count + [("test", True), ("train", False)]
        ]
        folder = tmp_path / "results" / "e"
        folder.mkdir(parents=True, exist_ok=True)
        for number, (*_, usable) in enumerate(rows):
            (folder / f"{number}.png").write_bytes(pngs[number] if usable else b"damaged")
        table = pd.DataFrame(rows, columns=["label_name", "label", "split", "usable"])
        table = table.assign(image_id=[f"{i:04}" for i in range(len(rows))], row=None, column=None, sha256="")
        table = table.assign(path=[str(folder / f"{i}.png") for i in range(len(rows))], width=28, height=28)
        write_manifest("real", table.astype({"row": "Int64"}), folder / "real.parquet")
        return str(folder / "real.parquet")

    return real


def settings(**changes) -> dict:
    """Of a short training with strong changes."""
    return {"steps": 3, "rank": 2, "batch_size": 4, "learning_rate": 0.05, "precision": "float32"} | changes


class Setup:
    """A pipeline of `planned`, an adapter for it, and latents of two classes."""

    def __init__(self, planned, real, family: str, seed: int = 0, **changes):
        self.row = planned(family).iloc[0]
        self.pipeline = load_pipeline(self.row, "cpu")
        self.adapter = LoraAdapter(self.pipeline, 16, Adaptation(output="unused", **settings(**changes)), seed)
        self.images = read_training_images(real({"cat": 4, "dog": 2}), "train", Prompts(templates=TEMPLATES))
        self.latents = encode_images(self.pipeline.vae, self.images.rows, Path("/"), 16, flip=True)

    def train(self, work, save_every_s: float = 60, encoded: torch.Tensor | None = None) -> pd.DataFrame:
        """encoded: positions of the images that have latents; None: all."""
        labels = torch.as_tensor(self.images.labels)
        latents = self.latents if encoded is None else tuple(part[:, encoded] for part in self.latents)
        return train_adapter(
            self.adapter, latents, labels, self.images.captions, None, seed=0, work=work, data=["data"],
            encoded=encoded, save_every_s=save_every_s,
        )  # fmt: skip


def images(pipeline, rows: pd.DataFrame) -> np.ndarray:
    return np.concatenate([pixels for _, pixels in sample(pipeline, rows, 5)])


def base_weights(setup: Setup) -> dict[str, torch.Tensor]:
    """Copies of all weights of the pipeline, the adapter's included."""
    modules = {name: part for name, part in setup.pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return {
        f"{name}.{key}": weight.detach().clone()
        for name, part in modules.items()
        for key, weight in part.named_parameters()
    }


@pytest.mark.parametrize(
    ("family", "text_encoder", "layers"),
    [("stable diffusion", False, "attention"), ("stable diffusion", True, "all"), ("sdxl", False, "all"),
     ("sdxl", True, "attention"), ("sd3", False, "attention"), ("sd3", False, "all")],
)  # fmt: skip
def test_training_changes_the_adapter_alone_and_the_file_changes_images(
    planned, real, tmp_path, family, text_encoder, layers
):
    setup = Setup(planned, real, family, text_encoder=text_encoder, layers=layers)
    kinds = ("conv1.lora_A", "ff.net.2.lora_A") if layers == "all" and family != "sd3" else ("attn",)
    assert all(any(part in name for name in setup.adapter.weights) for part in kinds)
    before = base_weights(setup)
    history = setup.train(tmp_path / "work")
    after = base_weights(setup)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and changed <= set(setup.adapter.weights)
    if text_encoder:
        assert {name.split(".")[0] for name in changed} >= {"unet", setup.adapter.family.text_encoders[-1]}
    assert history["step"].tolist() == [1, 2, 3]
    assert np.isfinite(history["loss"]).all()

    file = tmp_path / "adapter" / "pytorch_lora_weights.safetensors"
    setup.adapter.save(file)
    with safe_open(file, "pt") as opened:
        metadata = json.loads(opened.metadata()["lora_adapter_metadata"])
    assert {metadata[f"{part}.r"] for part in setup.adapter.modules} == {2}
    assert {metadata[f"{part}.lora_alpha"] for part in setup.adapter.modules} == {2}
    rows = planned(family)
    adapted = rows.assign(adapters=adapters_json([Adapter(kind="lora", model=str(file.parent))]))
    plain = images(load_pipeline(rows.iloc[0], "cpu"), rows)
    loaded = images(load_pipeline(adapted.iloc[0], "cpu"), adapted)
    assert all((without != adapter).any() for without, adapter in zip(plain, loaded, strict=True))
    # The file gives what was trained, at the same strength.
    assert np.abs(images(setup.pipeline, rows).astype(float) - loaded).mean() < 1


@pytest.mark.parametrize("changes", [{}, {"text_encoder": True}, {"precision": "bfloat16"}, {"precision": "float16"}])
def test_a_killed_training_ends_in_the_same_file(planned, real, tmp_path, monkeypatch, changes):
    whole = Setup(planned, real, "stable diffusion", **changes)
    expected = whole.train(tmp_path / "whole")
    losses, calls = adapt_families.StableDiffusion.losses, []

    def losses_until_killed(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return losses(*arguments)

    monkeypatch.setattr(adapt_families.StableDiffusion, "losses", losses_until_killed)
    with pytest.raises(KeyboardInterrupt):
        Setup(planned, real, "stable diffusion", **changes).train(tmp_path / "killed", save_every_s=0)
    resumed = Setup(planned, real, "stable diffusion", **changes)
    history = resumed.train(tmp_path / "killed", save_every_s=0)
    assert len(calls) == 3 + 1, "finished steps are not repeated"
    pd.testing.assert_frame_equal(history, expected)
    for name, setup in (("whole", whole), ("resumed", resumed)):
        setup.adapter.save(tmp_path / f"{name}.safetensors")
    assert (tmp_path / "whole.safetensors").read_bytes() == (tmp_path / "resumed.safetensors").read_bytes()


def test_only_the_latents_of_images_that_are_drawn_are_needed(planned, real, tmp_path):
    setups = [Setup(planned, real, "stable diffusion", steps=2, batch_size=2) for _ in range(2)]
    count = len(setups[0].images.labels)
    drawn = drawn_images(setups[0].adapter.settings, count, None, 0)
    assert len(drawn) < count
    histories = [
        setup.train(tmp_path / str(number), encoded=encoded)
        for number, (setup, encoded) in enumerate(zip(setups, (None, drawn), strict=True))
    ]
    pd.testing.assert_frame_equal(*histories)
    for name, weight in setups[0].adapter.weights.items():
        assert torch.equal(weight, setups[1].adapter.weights[name]), name


def test_gradient_checkpointing_changes_nothing(planned, real, tmp_path):
    weights = []
    for number, checkpointing in enumerate([False, True]):
        setup = Setup(planned, real, "stable diffusion", text_encoder=True, gradient_checkpointing=checkpointing)
        setup.train(tmp_path / str(number))
        weights.append(setup.adapter.state_dict())
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], msg=name)


def test_without_memory_a_step_is_done_in_parts(planned, real, tmp_path, monkeypatch, caplog):
    expected = Setup(planned, real, "stable diffusion")
    expected.train(tmp_path / "enough")
    losses, sizes = adapt_families.StableDiffusion.losses, []

    def losses_with_little_memory(self, clean, *arguments):
        sizes.append(len(clean))
        if len(clean) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses(self, clean, *arguments)

    monkeypatch.setattr(adapt_families.StableDiffusion, "losses", losses_with_little_memory)
    setup = Setup(planned, real, "stable diffusion")
    setup.train(tmp_path / "little")
    assert sizes == [4, 2] + [1] * 12
    assert "in parts of 1" in caplog.text
    for name, weight in expected.adapter.weights.items():
        torch.testing.assert_close(weight, setup.adapter.weights[name], atol=1e-3, rtol=1e-3)


def test_no_memory_for_one_image_is_one_line(planned, real, tmp_path, monkeypatch):
    def losses(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(adapt_families.StableDiffusion, "losses", losses)
    with pytest.raises(UserError, match="out of memory with one image; set gradient_checkpointing"):
        Setup(planned, real, "stable diffusion").train(tmp_path)


# ---------------------------------------------------------------------------------------------- the loss


def test_adapting_the_embedded_generator_lowers_the_loss_on_other_noise(repository, tmp_path):
    """Stripes, which the model of clothes has never seen, with noise and images that are not trained on."""
    model = str(repository / "resources" / "embedded_generator")
    row = {"pipeline": "text-to-image", "model": model, "model_version": model_version(model, None)}
    pipeline = load_pipeline(row | {"adapters": "", "scheduler": "", "variant": "", "dtype": "float32"}, "cpu")
    changes = settings(steps=12, rank=8, learning_rate=5e-3, snr_gamma=None, layers="all")
    adapter = LoraAdapter(pipeline, 32, Adaptation(output="unused", **changes), 0)
    stripes = torch.zeros(12, 1, 32, 32, dtype=torch.uint8)
    for number in range(12):
        stripes[number, 0, number % 4 :: 4] = 200 + number
    mean, std = encode(pipeline.vae, stripes)
    random = torch.Generator().manual_seed(99)
    noise, times = torch.randn(mean[8:].shape, generator=random), torch.tensor([200, 400, 600, 800])
    text = tuple(part.expand(4, -1, -1) for part in adapter.family.encode(["stripes"]))

    def held_out_loss() -> float:
        with torch.no_grad():
            return adapter.family.losses(mean[8:], noise, times, text).mean().item()

    before = held_out_loss()
    train_adapter(
        adapter, (mean[None, :8], std[None, :8]), torch.zeros(8, dtype=torch.long), [["stripes"]], None,
        seed=0, work=tmp_path, data=[],
    )  # fmt: skip
    assert held_out_loss() < 0.8 * before


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_is_weighted_by_min_snr(planned, prediction):
    pipeline = load_pipeline(planned("stable diffusion").iloc[0], "cpu")
    pipeline.scheduler.register_to_config(prediction_type=prediction, rescale_betas_zero_snr=False)
    weighted = adapt_families.StableDiffusion(pipeline, 16, 5.0)
    plain = adapt_families.StableDiffusion(pipeline, 16, None)
    random = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, 4, 4, generator=random)
    times = torch.tensor([5, 500, 950])
    text = tuple(part.expand(3, -1, -1) for part in plain.encode(["a cat"]))
    signal = weighted.schedule.alphas_cumprod[times]
    snr = signal / (1 - signal)
    expected = snr.clamp(max=5.0) / (snr if prediction == "epsilon" else snr + 1)
    with torch.no_grad():
        ratio = weighted.losses(clean, noise, times, text) / plain.losses(clean, noise, times, text)
    torch.testing.assert_close(ratio, expected)
    assert ratio[0] < 0.5 or prediction == "v_prediction"


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("family", ["dit", "flux", "pixart", "lcm"])
def test_a_family_without_support_is_one_line(planned, family):
    pipeline = load_pipeline(planned(family).iloc[0], "cpu")
    with pytest.raises(UserError, match=r"adaptation: no adapter can be trained for \w+Pipeline, the arch") as caught:
        LoraAdapter(pipeline, 16, Adaptation(output="unused", precision="float32"), 0)
    assert "\n" not in str(caught.value)


def test_noise_that_betas_do_not_give_is_one_line(planned):
    """Playground v2.5 has the parts of SDXL, and noise levels of EDM."""
    pipeline = load_pipeline(planned("sdxl").iloc[0], "cpu")
    pipeline.scheduler = EDMDPMSolverMultistepScheduler()
    with pytest.raises(
        UserError, match=r"follows EDMDPMSolver\w+, and an adapter can be trained for schedules of betas"
    ):
        LoraAdapter(pipeline, 16, Adaptation(output="unused", precision="float32"), 0)


def test_a_text_encoder_of_sd3_is_one_line(planned):
    pipeline = load_pipeline(planned("sd3").iloc[0], "cpu")
    with pytest.raises(UserError, match=r"adaptation\.text_encoder: is not supported for StableDiffusion3Pipeline"):
        LoraAdapter(pipeline, 16, Adaptation(output="unused", text_encoder=True), 0)


@pytest.mark.parametrize(
    ("package", "changes", "message"),
    [
        ("peft", {}, r"adaptation: needs the package peft; pip install 'synaug\[lora\]'"),
        ("bitsandbytes", {"optimizer": "adamw_8bit"}, "adamw_8bit needs the package bitsandbytes; pip install bitsand"),
    ],
)
def test_a_missing_package_is_named(planned, real, tmp_path, monkeypatch, package, changes, message):
    find_spec = adapt.find_spec
    monkeypatch.setattr(adapt, "find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(UserError, match=message):
        Setup(planned, real, "stable diffusion", **changes).train(tmp_path)


# ---------------------------------------------------------------------------------------------- the rule's script


@pytest.mark.parametrize("family", FAMILIES)
def test_the_script_writes_adapter_history_and_samples(family, checkpoint, real, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    model = {"model": str(checkpoint(family)), "revision": None, "size": 16}
    model |= {"original_size": 32} if family == "sdxl" else {}
    out = tmp_path / "results" / "e" / "adapter"
    manifest, prompts = real({"cat": 4, "dog": 1}), Prompts().model_dump()
    arguments = [manifest, model, settings(), prompts, [], "train", 0, 1, str(tmp_path / "work"), str(out)]
    adapt_generator.main(*arguments)
    assert sorted(path.name for path in out.iterdir()) == [
        "history.parquet", "pytorch_lora_weights.safetensors", "samples.png",
    ]  # fmt: skip
    assert read_manifest("history", out / "history.parquet")["step"].tolist() == [1, 2, 3]
    assert Image.open(out / "samples.png").size[0] > 500
    assert "class 'dog' has 1 training image" in caplog.text
    check_adapter_folder(out)  # it may be trained again
    weights = (out / "pytorch_lora_weights.safetensors").read_bytes()
    adapt_generator.main(*arguments)  # every step is in the saved state
    assert (out / "pytorch_lora_weights.safetensors").read_bytes() == weights
    if family == "sdxl":  # another value trains again
        arguments[1] = model | {"original_size": 64}
        adapt_generator.main(*arguments)
        assert (out / "pytorch_lora_weights.safetensors").read_bytes() != weights


def test_the_model_of_the_training_is_out_of_memory_before_the_model_for_the_samples_is_loaded(
    checkpoint, real, tmp_path, monkeypatch, models_in_memory
):
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    in_memory = models_in_memory(adapt_generator)
    model = {"model": str(checkpoint("stable diffusion")), "revision": None, "size": 16}
    arguments = [settings(), Prompts().model_dump(), [], "train", 0, 1, str(tmp_path / "work")]
    adapt_generator.main(real({"cat": 4, "dog": 2}), model, *arguments, str(tmp_path / "results" / "e" / "adapter"))
    assert in_memory == [[], [False]]


@pytest.mark.parametrize("sampling", ["uniform", "class_balanced"])
def test_the_script_encodes_only_images_that_are_drawn(checkpoint, real, tmp_path, monkeypatch, sampling):
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    encoded = []

    def encode(autoencoder, rows, *arguments):
        encoded.append(len(rows))
        return encode_images(autoencoder, rows, *arguments)

    monkeypatch.setattr(adapt_generator, "encode_images", encode)
    model = {"model": str(checkpoint("stable diffusion")), "revision": None, "size": 16}
    few = settings(steps=2, batch_size=1, sampling=sampling)
    arguments = [few, Prompts().model_dump(), [], "train", 0, 1, str(tmp_path / "work")]
    adapt_generator.main(real({"cat": 9, "dog": 9}), model, *arguments, str(tmp_path / "results" / "e" / "adapter"))
    assert encoded in ([1], [2])


def test_another_variant_of_the_same_model_is_trained_anew(checkpoint, real, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    folder = shutil.copytree(checkpoint("stable diffusion"), tmp_path / "model")
    pipeline = DiffusionPipeline.from_pretrained(folder)
    with torch.no_grad():
        for weight in pipeline.unet.parameters():
            weight += 0.1
    pipeline.save_pretrained(folder, variant="other")
    model = {"model": str(folder), "revision": None, "size": 16}
    out, manifest = tmp_path / "results" / "e" / "adapter", real({"cat": 4, "dog": 2})
    weights = []
    for variant in ({}, {"variant": "other"}):
        arguments = [settings(), Prompts().model_dump(), [], "train", 0, 1, str(tmp_path / "work"), str(out)]
        adapt_generator.main(manifest, model | variant, *arguments)
        weights.append((out / "pytorch_lora_weights.safetensors").read_bytes())
    assert weights[0] != weights[1]


def test_sdxl_below_its_trained_size_learns_the_original_size_that_its_images_get(planned):
    pipeline = load_pipeline(planned("sdxl").iloc[0], "cpu")
    adapter = LoraAdapter(pipeline, 16, Adaptation(output="unused", precision="float32"), 0, original_size=32)
    seen = []
    forward = pipeline.unet.forward

    def remember(*arguments, added_cond_kwargs, **others):
        seen.append(added_cond_kwargs["time_ids"][0].tolist())
        return forward(*arguments, added_cond_kwargs=added_cond_kwargs, **others)

    pipeline.unet.forward = remember
    clean, text = torch.zeros(1, pipeline.unet.config.in_channels, 8, 8), adapter.family.encode(["a cat"])
    adapter.family.losses(clean, torch.ones_like(clean), torch.tensor([5]), text)
    assert seen == [[32, 32, 0, 0, 16, 16]]
