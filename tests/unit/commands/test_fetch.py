"""`synaug fetch`: what a config names is downloaded from a hub on this machine, and jobs load it without a network."""

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file, save_file

from hub_server import GATED, REFUSED, Hub, commit
from synaug.commands.fetch import fetch_one
from synaug.config import Adapter
from synaug.downloads import Download
from synaug.runtime.errors import UserError
from tiny_clip import save_clip

MODEL, LORA, CLIP, NETWORK = "people/small", "people/lora", "people/clip", "timm/test_vit.r160_in1k"
ADAPTER = {"kind": "lora", "model": LORA, "revision": "main"}
CONFIG = {
    "experiment": "mine",
    "dataset": {"source": "folder", "path": "data", "image_size": 64},
    "generation": {"model": MODEL, "revision": commit(MODEL), "variant": "fp16", "size": 16, "adapters": [ADAPTER]},
    "screening": {"text_image": {"model": CLIP, "revision": commit(CLIP)}},
    "recipes": {"real": {"data": "real", "stage1": {"backbone": NETWORK, "pretrained": True}}},
}
# What jobs read of the repositories, and nothing else.
FILES = {
    MODEL: [
        *("model_index.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer.json"),
        *("tokenizer/tokenizer_config.json", "text_encoder/config.json", "unet/config.json", "vae/config.json"),
        *("text_encoder/model.fp16.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"),
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ],
    LORA: [".gitattributes", "pytorch_lora_weights.safetensors"],
    CLIP: ["config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json"],
    NETWORK: ["model.safetensors"],
}


@pytest.fixture(scope="module")
def hub(tiny_checkpoint, tmp_path_factory):
    """A hub with the repositories of CONFIG, which hold more than the jobs need, and GATED."""
    root = tmp_path_factory.mktemp("hub")
    model = shutil.copytree(tiny_checkpoint, root / MODEL)
    index = json.loads((model / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (model / "model_index.json").write_text(json.dumps(index))
    (model / "safety_checker").mkdir()
    shutil.copy(model / "vae/config.json", model / "safety_checker/config.json")
    for weights in [*model.glob("*/*.safetensors"), model / "safety_checker/model.safetensors"]:
        for name in (f"{weights.stem}.fp16.safetensors", f"{weights.stem}.bin"):
            (weights.parent / name).write_bytes(weights.read_bytes() if weights.exists() else b"no weights")
    (model / "small.ckpt").write_bytes(b"all weights in one file")
    layers = {}
    for name, weight in load_file(model / "unet/diffusion_pytorch_model.safetensors").items():
        if name.endswith("to_q.weight"):
            layers[f"unet.{name.removesuffix('.weight')}.lora_A.weight"] = torch.ones(2, weight.shape[1])
            layers[f"unet.{name.removesuffix('.weight')}.lora_B.weight"] = torch.ones(weight.shape[0], 2)
    (root / LORA).mkdir()
    save_file(layers, root / LORA / "pytorch_lora_weights.safetensors")
    (root / LORA / "optimizer.safetensors").write_bytes(b"of its training")
    (root / LORA / ".gitattributes").write_text("*.safetensors filter=lfs")
    save_clip(root / CLIP, ["a photo of a cat"])
    (root / CLIP / "pytorch_model.bin").write_bytes(b"the same weights")
    (root / CLIP / "onnx").mkdir()
    (root / CLIP / "onnx/config.json").write_text("{}")
    (root / NETWORK).mkdir(parents=True)
    save_file(timm.create_model("test_vit").state_dict(), root / NETWORK / "model.safetensors")
    (root / NETWORK / "pytorch_model.bin").write_bytes(b"the same weights")
    shutil.copytree(root / CLIP, root / GATED)
    return Hub(root)


def fetch(hub: Hub, home: Path, config: dict) -> subprocess.CompletedProcess:
    """Call `synaug fetch` in a process of its own."""
    (home / "mine.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "synaug.cli", "fetch", str(home / "mine.yaml")]
    hub.downloads.clear()
    return subprocess.run(command, env=hub.environment(home), capture_output=True, text=True)


@pytest.fixture(scope="module")
def fetched(hub, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess, list[str]]:
    """The cache after CONFIG was fetched into it, how the command ended, and the files that it downloaded."""
    home = tmp_path_factory.mktemp("home")
    done = fetch(hub, home, CONFIG)
    return home, done, sorted(hub.downloads)


@pytest.fixture
def in_cache(fetched, monkeypatch) -> Path:
    """The cache, as the one of this process, which is offline."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(fetched[0] / "hub"))
    return fetched[0]


def test_each_thing_has_a_line_with_its_revision_size_and_place(fetched):
    home, done, _ = fetched
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    starts = [f"generation.model: {MODEL} at {commit(MODEL)}: ", f"generation.adapters: {LORA} at main: "]
    starts += [
        f"screening.text_image.model: {CLIP} at {commit(CLIP)}: ",
        f"recipes.real.stage1.pretrained: {NETWORK}: ",
    ]
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        size, place = line.removeprefix(start).split(" MB, ")
        assert float(size) >= 0 and Path(place).is_relative_to(home), line


def test_only_files_that_jobs_read_are_downloaded(fetched):
    assert fetched[2] == sorted(f"{name}/{file}" for name, files in FILES.items() for file in files)


def test_jobs_load_without_a_network_what_was_fetched(in_cache, hub, plan, pngs):
    from synaug.generation.pipelines import load_pipeline
    from synaug.networks.classifier import Classifier
    from synaug.plan.checkpoints import adapters_json
    from synaug.screening.scorers import TextImageScorer

    adapters = adapters_json([Adapter.model_validate(ADAPTER)])
    row = plan.iloc[0].to_dict() | {"model": MODEL, "model_version": commit(MODEL), "variant": "fp16"}
    with_adapter, without = (load_pipeline(row | {"adapters": text}, "cpu") for text in (adapters, ""))
    for name, weight in without.unet.state_dict().items():
        assert torch.equal(with_adapter.unet.state_dict()[name], weight) == (not name.endswith("to_q.weight")), name

    scorer = TextImageScorer(CLIP, commit(CLIP), "cpu")
    assert scorer.embed_texts(["a photo of a cat"]).shape == (1, 8)

    network = Classifier(NETWORK, None, ["a", "b"], 64, 3)
    network.load_pretrained(True)
    published = load_file(hub.root / NETWORK / "model.safetensors")
    assert torch.equal(network.body.state_dict()["cls_token"], published["cls_token"])


def test_offline_it_only_checks_what_is_there(in_cache, synaug, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    status, out, err = synaug("fetch", config)
    assert (status, err) == (0, "")
    assert [": already there, " in line for line in out.splitlines()] == [True] * 4
    config.write_text(
        yaml.safe_dump(
            CONFIG | {"screening": {"safety": {"model": "people/other", "revision": "main", "unsafe_labels": ["x"]}}}
        )
    )
    status, out, err = synaug("fetch", config)
    assert status == 2 and len(out.splitlines()) == 3
    assert err.startswith(
        "synaug: error: screening.safety.model: people/other at main: is not on this machine, and HF_HUB"
    )
    assert err.count("\n") == 1


def test_what_cannot_be_fetched_is_one_line_and_the_rest_is_fetched(fetched, hub):
    other = {"model": "people/unknown", "revision": "main", "adapters": [ADAPTER | {"revision": "nowhere"}]}
    safety = {"model": REFUSED, "revision": "main", "unsafe_labels": ["nsfw"]}
    screening = {"text_image": {"model": GATED, "revision": "main"}, "safety": safety}
    done = fetch(hub, fetched[0], CONFIG | {"generation": other, "screening": screening})
    assert done.returncode == 2
    assert f"{NETWORK}: already there, " in done.stdout and done.stdout.count("\n") == 1
    expected = [
        ["generation.model: people/unknown at main: the hub has no such model", "correct the name"],
        [f"generation.adapters: {LORA} at nowhere: the hub has no such revision", "commit, tag or branch"],
        [f"screening.text_image.model: {GATED} at main: is gated", f"conditions on {hub.url}/{GATED}, and log in"],
        [f"screening.safety.model: {REFUSED} at main: the hub refuses your token", "hf auth login"],
    ]
    lines = done.stderr.splitlines()
    assert len(lines) == len(expected), done.stderr
    for line, words in zip(lines, expected, strict=True):
        assert line.startswith("synaug: error: ") and all(word in line for word in words), line
    assert hub.downloads == []


def test_without_downloads_it_says_so(synaug, tmp_path, tiny_checkpoint):
    config = CONFIG | {"generation": {"model": str(tiny_checkpoint)}, "recipes": {"real": {"data": "real"}}}
    del config["screening"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    status, out, _ = synaug("fetch", tmp_path / "mine.yaml")
    assert status == 0 and out.startswith("nothing to fetch")


def test_a_study_is_fetched_for_all_its_variants(tmp_path):
    from synaug.commands.fetch import downloads_of_file

    models = {"one": "people/a", "two": "people/b", "three": MODEL}
    study = {name: {"generation": {"model": model}} for name, model in models.items()}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(CONFIG | {"study": study}, sort_keys=False))
    found = downloads_of_file(tmp_path / "study.yaml")
    assert [one.name for one in found if one.key == "generation.model"] == list(models.values())
    assert len({(one.key, one.name) for one in found}) == len(found)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "there is no such file"), ("a: [", "cannot be read as YAML"), ("word", "should be a block of keys")],
)
def test_a_file_that_is_no_config_is_one_line(synaug, tmp_path, content, words):
    if content:
        (tmp_path / "mine.yaml").write_text(content)
    status, _, err = synaug("fetch", tmp_path / "mine.yaml")
    assert status == 2 and words in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ["the disk is full", "make room, and fetch again"]),
        (PermissionError(errno.EACCES, "Permission denied", "/cache"), ["cannot be written", "set HF_HOME"]),
        (ConnectionError("Name or service not known"), ["there is no connection", "check the network"]),
        (ValueError("a strange file"), ["cannot be fetched (", "see its page"]),
    ],
)
def test_faults_of_the_machine_say_what_to_do(monkeypatch, cause, words):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def get(local_files_only):
        raise OSError("it cannot be loaded") from cause

    with pytest.raises(UserError) as error:
        fetch_one(Download("generation.model", "people/model", "main", (), get))
    assert all(word in str(error.value) for word in ["generation.model", *words])
    assert "\n" not in str(error.value)
