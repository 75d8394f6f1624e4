"""A genuinely tiny generator, trained in seconds, behaves like any other diffusers checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForText2Image
from safetensors.torch import load_file

from synaug.generator import fit_denoiser, train_generator
from synaug.generator.architecture import build_autoencoder, build_tokenizer
from synaug.generator.fit_autoencoder import encode, normalise_latents

PROMPTS = [["a photo of a red square", "red square"], ["a photo of a blue square", "blue square"]]
SMALL = {
    "size": 16, "autoencoder_steps": 6, "denoiser_steps": 6, "batch_size": 8, "autoencoder_width": 8,
    "denoiser_width": 32,
}  # fmt: skip


def squares(count: int = 24, grey: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Noisy red (label 0) and blue (label 1) squares, 14 x 14."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 2
    images = random.integers(0, 40, (count, 14, 14, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[3:11, 3:11, 2 * label] += 200
    return (images[..., 0] if grey else images), labels


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint folder, by file and name."""
    files = sorted(folder.rglob("*.safetensors"))
    return {f"{file.parent.name}/{name}": tensor for file in files for name, tensor in load_file(file).items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The checkpoint of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("generator")
    train_generator(*squares(), PROMPTS, folder / "model", folder / "work", **SMALL)
    return folder / "model"


def test_stock_pipeline_loads_and_samples(trained):
    pipeline = AutoPipelineForText2Image.from_pretrained(trained, dtype=torch.float32)
    assert type(pipeline).__name__ == "StableDiffusionPipeline"
    assert pipeline.unet.dtype == torch.float32
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    images = pipeline(["a photo of a red square"] * 2, num_inference_steps=3, generator=seeds).images
    assert [(image.size, image.mode) for image in images] == [((16, 16), "RGB")] * 2
    assert np.ptp(np.asarray(images[0])) > 0
    assert not np.array_equal(images[0], images[1])


def test_folder_holds_the_usual_parts_and_only_safetensors(trained):
    index = json.loads((trained / "model_index.json").read_text())
    assert index["text_encoder"] == ["transformers", "CLIPTextModel"]
    assert index["safety_checker"] == [None, None]
    assert {part.name for part in trained.iterdir() if part.is_dir()} == {
        "scheduler", "text_encoder", "tokenizer", "unet", "vae",
    }  # fmt: skip
    assert {file.suffix for file in trained.rglob("*") if file.is_file()} == {".json", ".safetensors"}
    assert [path.name for path in trained.parent.iterdir() if path.name.startswith(".")] == []


def test_killed_training_resumes_to_the_same_weights(trained, tmp_path, monkeypatch):
    forward = fit_denoiser.TextToLatents.forward
    calls = []

    def forward_until_killed(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return forward(*arguments)

    monkeypatch.setattr(fit_denoiser.TextToLatents, "forward", forward_until_killed)
    with pytest.raises(KeyboardInterrupt):
        train_generator(*squares(), PROMPTS, tmp_path / "model", tmp_path / "work", save_every_s=0, **SMALL)
    assert not (tmp_path / "model").exists()
    train_generator(*squares(), PROMPTS, tmp_path / "model", tmp_path / "work", save_every_s=0, **SMALL)
    assert len(calls) == 4 + 3, "the three finished steps are not done again"
    expected, found = weights(trained), weights(tmp_path / "model")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_another_process_knows_the_state_for_its_own():
    """What diffusers notes in a config for itself is a set made to a list: in another order in every process."""
    from synaug.generator.architecture import build_autoencoder
    from synaug.generator.fit import _public

    config = dict(build_autoencoder(16, 1, 8).config)
    assert len(config["_use_default_values"]) > 1
    assert _public(config) == _public(config | {"_use_default_values": config["_use_default_values"][::-1]})


def test_other_settings_do_not_resume_and_replace_the_folder(tmp_path):
    settings = SMALL | {"autoencoder_steps": 1, "denoiser_steps": 1}
    images, labels = squares(grey=True)
    results = []
    for seed in (0, 1):
        train_generator(images, labels, PROMPTS, tmp_path / "model", tmp_path / "work", **settings, seed=seed)
        results.append(weights(tmp_path / "model"))
    name = "unet/conv_in.weight"
    assert not torch.equal(results[0][name], results[1][name])
    assert results[0]["vae/encoder.conv_in.weight"].shape[1] == 1, "grey images, one channel"


def test_normalised_latents_decode_to_the_same_image():
    torch.manual_seed(0)
    autoencoder = build_autoencoder(16, 3, 8).eval()
    pixels = torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8)
    means, stds = encode(autoencoder, pixels)
    with torch.inference_mode():
        before = autoencoder.decode(means).sample
    new_means, new_stds = normalise_latents(autoencoder, means, stds)
    variance = new_means.var((0, 2, 3)) + new_stds.square().mean((0, 2, 3))
    torch.testing.assert_close(variance, torch.ones(8))
    torch.testing.assert_close(encode(autoencoder, pixels), (new_means, new_stds), atol=1e-4, rtol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(autoencoder.decode(new_means).sample, before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("text", ["a photo of a red square", "Zürich, 東京 & 'quotes' 12%", ""])
def test_any_text_tokenizes(tmp_path, text):
    tokenizer = build_tokenizer(["", "a photo of a red square", "red square"])
    tokenizer.save_pretrained(tmp_path)
    loaded = type(tokenizer).from_pretrained(tmp_path)
    ids = loaded(text).input_ids
    assert ids == tokenizer(text).input_ids
    assert loaded.model_max_length == tokenizer.model_max_length == 24
    assert tokenizer.unk_token_id not in ids[1:-1]
    assert tokenizer.decode(ids[1:-1]).replace(" ", "") == text.lower().replace(" ", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((24, 14, 14), np.float32)}, "images: uint8"),
        ({"images": np.zeros((24, 14, 12, 3), np.uint8)}, "images: .*square"),
        ({"labels": np.zeros(3, int)}, "labels: 3 of them for 24 images"),
        ({"labels": np.full(24, 2)}, "labels: 2 to 2, but prompts are given for 0 to 1"),
        ({"prompts": [["red"], []]}, "prompts: label 1 has no caption"),
        ({"size": 30}, "size: 30 is not a multiple of 8"),
        ({"batch_size": 0}, "batch_size: 0 is not a positive number"),
    ],
)
def test_bad_input_is_one_clear_line_and_writes_nothing(tmp_path, change, message):
    images, labels = squares()
    arguments = {"images": images, "labels": labels, "prompts": PROMPTS, **SMALL} | change
    with pytest.raises(ValueError, match=message) as caught:
        train_generator(out=tmp_path / "model", work=tmp_path / "work", **arguments)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
