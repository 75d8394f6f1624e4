"""A tiny generator, trained in seconds, can be used like any other diffusers checkpoint."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForText2Image
from safetensors.torch import load_file

from synaug.generator import train_denoiser
from synaug.generator.architecture import build_autoencoder, build_tokenizer
from synaug.generator.output_folder import check_output_folder
from synaug.generator.start import load_text_encoder
from synaug.generator.train import _public, train_generator
from synaug.generator.train_autoencoder import encode, normalise_latents
from synaug.runtime.errors import UserError

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
    forward = train_denoiser.TextToLatents.forward
    calls = []

    def forward_until_killed(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return forward(*arguments)

    monkeypatch.setattr(train_denoiser.TextToLatents, "forward", forward_until_killed)
    with pytest.raises(KeyboardInterrupt):
        train_generator(*squares(), PROMPTS, tmp_path / "model", tmp_path / "work", save_every_s=0, **SMALL)
    assert not (tmp_path / "model").exists()
    train_generator(*squares(), PROMPTS, tmp_path / "model", tmp_path / "work", save_every_s=0, **SMALL)
    assert len(calls) == 4 + 3, "the three finished steps are not repeated"
    expected, resumed = weights(trained), weights(tmp_path / "model")
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_another_process_accepts_the_saved_state():
    """The private entries of a diffusers config include a set as a list: its order differs between processes."""
    config = dict(build_autoencoder(16, 1, 8).config)
    assert len(config["_use_default_values"]) > 1
    assert _public(config) == _public(config | {"_use_default_values": config["_use_default_values"][::-1]})


def test_other_settings_start_again_and_replace_the_folder(tmp_path):
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
        ({"images": np.zeros((24, 14, 14), np.float32)}, "images: must be uint8"),
        ({"images": np.zeros((24, 14, 12, 3), np.uint8)}, "images: .*square"),
        ({"labels": np.zeros(3, int)}, "labels: 3 labels for 24 images"),
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


def test_a_foreign_folder_is_refused_before_training_and_keeps_its_files(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "1.png").write_bytes(b"image")
    with pytest.raises(UserError, match=r"holds 1\.png"):
        train_generator(*squares(), PROMPTS, tmp_path / "data", tmp_path / "work", **SMALL)
    assert (tmp_path / "data" / "1.png").read_bytes() == b"image"
    with pytest.raises(UserError, match="is or contains"):
        train_generator(*squares(), PROMPTS, tmp_path, tmp_path / "work", **SMALL)
    assert not (tmp_path / "work").exists()


def test_files_that_appear_during_the_training_are_kept(tmp_path, monkeypatch):
    out, forward = tmp_path / "model", train_denoiser.TextToLatents.forward

    def forward_while_somebody_writes(*arguments):
        out.mkdir(exist_ok=True)
        (out / "notes.txt").write_text("kept")
        return forward(*arguments)

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"holds notes\.txt"):
        patch.setattr(train_denoiser.TextToLatents, "forward", forward_while_somebody_writes)
        train_generator(*squares(), PROMPTS, out, tmp_path / "work", **SMALL)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    (out / "notes.txt").rename(tmp_path / "notes.txt")
    train_generator(*squares(), PROMPTS, out, tmp_path / "work", **SMALL)  # every step is in the saved state
    assert (out / "model_index.json").exists()


def test_our_own_model_is_replaced_through_a_link_and_its_card_is_kept(trained, tmp_path):
    check_output_folder(trained)
    folder = shutil.copytree(trained, tmp_path / "disk" / "model")
    (folder / "README.md").write_text("card")
    (tmp_path / "link").symlink_to(folder)
    train_generator(*squares(grey=True), PROMPTS, tmp_path / "link", tmp_path / "work", **SMALL)
    assert (tmp_path / "link").is_symlink()
    assert weights(folder)["vae/encoder.conv_in.weight"].shape[1] == 1, "the new model is of grey images"
    assert (folder / "README.md").read_text() == "card"
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


# ---------------------------------------------------------------------------------------------- start


NEW_PROMPTS = [["a photo of a zebra", "zebra"], ["a photo of a blue square", "blue square"]]


def test_a_training_starts_from_the_weights_of_a_checkpoint(trained, tmp_path):
    settings = SMALL | {"autoencoder_steps": 1, "denoiser_steps": 1, "seed": 1}
    before = weights(trained)
    distances = {}
    for name, start in (("start", trained), ("scratch", None)):
        train_generator(*squares(), NEW_PROMPTS, tmp_path / name, tmp_path / f"{name}.work", start=start, **settings)
        after = weights(tmp_path / name)
        parts = ["unet/conv_in.weight", "vae/encoder.conv_in.weight"]
        distances[name] = [float((after[part] - before[part]).float().norm()) for part in parts]
    assert all(near < far / 2 for near, far in zip(distances["start"], distances["scratch"], strict=True))
    pipeline = AutoPipelineForText2Image.from_pretrained(tmp_path / "start", dtype=torch.float32)
    assert pipeline("a zebra", num_inference_steps=2).images[0].size == (16, 16)


def test_new_words_get_a_token_and_old_ones_keep_theirs(trained):
    from transformers import CLIPTextModel, CLIPTokenizer

    old, old_encoder = (part.from_pretrained(trained / name) for part, name in
                        ((CLIPTokenizer, "tokenizer"), (CLIPTextModel, "text_encoder")))  # fmt: skip
    long = "a photo of a zebra " * 12
    tokenizer, text_encoder = load_text_encoder(trained, ["a photo of a zebra", "red square", long])
    assert len(old("zebra").input_ids) > 3 and len(tokenizer("a zebra").input_ids) == 4
    assert "zebras" in tokenizer.decode(tokenizer("zebras").input_ids)
    assert len(tokenizer("zebras").input_ids) > 3, "a token for a word is not used inside of other words"
    assert tokenizer("red square").input_ids == old("red square").input_ids
    assert old.model_max_length < tokenizer.model_max_length == 64
    ids = old("red square", return_tensors="pt").input_ids
    with torch.no_grad():
        expected, found = (part.float()(ids).last_hidden_state for part in (old_encoder, text_encoder))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"denoiser_width": 64}, r"generator\.start: .* its unet has attention_head_dim \[1, 1\], and this"),
        ({"size": 24}, r"generator\.start: .* its vae has sample_size 16, and this generator has 24"),
        ({"latent_channels": 4}, r"its vae has latent_channels 8, and this generator has 4"),
    ],
)
def test_a_start_of_another_architecture_is_one_line(trained, tmp_path, change, message):
    settings = SMALL | {"autoencoder_steps": 1, "denoiser_steps": 1} | change
    with pytest.raises(UserError, match=message) as caught:
        train_generator(*squares(), PROMPTS, tmp_path / "model", tmp_path / "work", start=trained, **settings)
    assert "\n" not in str(caught.value)


def test_a_damaged_start_is_one_line(trained, tmp_path):
    start = shutil.copytree(trained, tmp_path / "start")
    (start / "vae" / "config.json").unlink()
    with pytest.raises(UserError, match=r"generator\.start: .*vae cannot be loaded"):
        train_generator(*squares(), PROMPTS, tmp_path / "model", tmp_path / "work", start=start, **SMALL)
