"""What the config files of a checkpoint say of guidance and sizes, and the settings that do not suit it."""

import json
from pathlib import Path

import pytest

from synaug.config import Generation
from synaug.plan.estimate import cost_text, measured_speed
from synaug.plan.model_family import Family, check_generation, read_family
from synaug.plan.rows import plan_from_settings
from synaug.runtime.errors import UserError

UNET = {"_class_name": "UNet2DConditionModel", "sample_size": 64}
FLUX = {"_class_name": "FluxTransformer2DModel"}
PARTS = {
    "sd": {"unet": UNET},
    "sdxl": {"unet": UNET | {"sample_size": 128, "addition_embed_type": "text_time"}},
    "sdxl turbo": {"unet": UNET | {"addition_embed_type": "text_time"}},
    "lcm": {"unet": UNET | {"time_cond_proj_dim": 256}},
    "flux dev": {"transformer": FLUX | {"guidance_embeds": True}},
    "flux schnell": {"transformer": FLUX | {"guidance_embeds": False}},
    "dit": {"transformer": {"_class_name": "DiTTransformer2DModel"}},
    "another": {"transformer": {"_class_name": "AnotherModel"}},
}


def write_configs(folder: Path, name: str) -> str:
    """Write the config files of a checkpoint to `folder`."""
    ((part, config),) = PARTS[name].items()
    files = {
        "model_index.json": {part: ["diffusers", config["_class_name"]]},
        f"{part}/config.json": config,
        "vae/config.json": {"block_out_channels": [128, 256, 512, 512]},
    }
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(content))
    (folder / part / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    return str(folder)


@pytest.fixture
def local(tmp_path):
    """A function: name in PARTS to a local folder."""
    return lambda name: write_configs(tmp_path / name, name)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A function: put the config files of a checkpoint into the cache of the hub, as someone/model at revision abc."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return lambda name: write_configs(tmp_path / "hub" / "models--someone--model" / "snapshots" / "abc", name)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("sd", Family("classifier-free")),
        ("sdxl", Family("classifier-free", 1024)),
        ("sdxl turbo", Family("classifier-free", 512)),
        ("lcm", Family("embedded")),
        ("flux dev", Family("embedded")),
        ("flux schnell", Family("none")),
        ("dit", Family("classifier-free")),
        ("another", None),
    ],
)
def test_the_family_is_read_from_the_config_files_of_a_folder_and_of_the_cache(local, hub, name, family):
    assert read_family(local(name), None) == family
    assert read_family("someone/model", "abc") is None
    hub(name)
    assert read_family("someone/model", "abc") == family
    assert read_family("someone/model", "another-revision") is None


def test_a_damaged_config_file_is_left_to_the_loader(local):
    folder = local("sd")
    (Path(folder) / "unet" / "config.json").write_text("{")
    assert read_family(folder, None) is None


def refusal(negative: str = "", **generation) -> str:
    with pytest.raises(UserError) as error:
        check_generation(Generation(**generation), negative)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["lcm", "flux dev"])
def test_embedded_guidance_has_no_default(local, name):
    assert "generation.guidance" in (text := refusal(model=local(name))) and "3.5" in text and "8.5" in text
    for guidance in (0.0, 1.0, 2.0, 3.5, [3.5, 8.5]):
        check_generation(Generation(model=local(name), guidance=guidance), "")


@pytest.mark.parametrize("name", ["sd", "sdxl turbo", "dit", "flux schnell", "another"])
def test_other_models_have_guidance_2(local, name):
    check_generation(Generation(model=local(name)), "")
    assert Generation(model="m").guidance_values == [2.0]


def test_a_negative_prompt_without_effect_is_refused(local):
    text = refusal("blurry", model=local("sd"), guidance=[3.0, 1.0])
    assert text.startswith("prompts.negative: 'blurry' has no effect at generation.guidance 1; leave it out, or raise")
    for name in ("lcm", "flux dev", "flux schnell"):
        assert "no classifier-free guidance" in refusal("blurry", model=local(name), guidance=5.0)
    for name in ("sd", "another"):
        check_generation(Generation(model=local(name), guidance=1.1), "blurry")
    check_generation(Generation(model=local("sd"), guidance=1.0), "")


def test_sdxl_below_the_size_of_its_training_needs_the_original_size(local):
    text = refusal(model=local("sdxl"), size=512)
    assert "generation.size: 512" in text and "add generation.original_size: 1024 (or 512, " in text
    for settings in ({"size": 1024}, {"original_size": 1024}, {"original_size": 512}):
        check_generation(Generation(model=local("sdxl"), **settings), "")
    check_generation(Generation(model=local("sdxl turbo"), size=512), "")
    assert "is not SDXL" in refusal(model=local("sd"), original_size=1024)


def test_the_plan_refuses_what_does_not_suit_the_model(local, cells):
    settings = {
        "balance": {}, "prompts": {"negative": "blurry"}, "generation": {"model": local("sd"), "guidance": 1.0},
        "seed": 0, "image_size": 28, "color": "rgb",
    }  # fmt: skip
    with pytest.raises(UserError, match=r"prompts\.negative"):
        plan_from_settings(cells({"a": 2, "b": 1}), settings, None)
    settings["prompts"] = {}
    assert len(plan_from_settings(cells({"a": 2, "b": 1}), settings, None)) == 1


@pytest.mark.parametrize(("name", "comparable"), [("sd", False), ("lcm", True), ("flux dev", True), ("another", False)])
def test_guidance_changes_the_time_only_of_classifier_free_guidance(make, local, store, tmp_path, name, comparable):
    """A measurement at guidance 1 gives the time at guidance 8.5 if guidance needs no second evaluation."""
    model = local(name)
    store(make(model=model, guidance=1.0).head(20), seconds=10.0)
    speed = measured_speed(make(model=model, guidance=8.5), tmp_path)
    assert (speed is not None) == comparable


def test_the_estimate_says_if_the_kind_of_guidance_is_not_known(make, cells, hub, tmp_path):
    plan, table = make(model="someone/model", version="abc"), cells({"a": 50, "b": 30, "c": 12, "d": 3})
    table = table[table["kind"] == "cell"]
    assert "assumes classifier-free guidance" in " ".join(cost_text(plan, table, tmp_path / "results").split())
    hub("sd")
    assert "assumes classifier-free guidance" not in " ".join(cost_text(plan, table, tmp_path / "results").split())
