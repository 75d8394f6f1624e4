"""What a config names that has to be downloaded, and what is said before any job if that was not done."""

from contextlib import nullcontext

import pytest

from synaug.config import Config
from synaug.downloads import check_downloads, downloads_of, each_once
from synaug.runtime.errors import UserError

SETTINGS = {
    "experiment": "mine",
    "dataset": {"source": "folder", "path": "data", "image_size": 64},
    "generation": {"model": "people/small", "revision": "main"},
    "recipes": {"real": {"data": "real"}},
}
VIT, RESNET = "timm/test_vit.r160_in1k", "torchvision/resnet18"
BACKBONE = {"backbone": VIT, "pretrained": True}
GENERATION = ["generation.model: people/small", "generation.adapters: people/lora"]


def named(**changes) -> list[tuple[str, str, str | None]]:
    downloads = each_once(downloads_of(Config.model_validate(SETTINGS | changes)))
    return [(one.key, one.name, one.revision) for one in downloads]


def test_models_and_adapters_of_all_fills_are_named_once():
    adapter = {"kind": "lora", "model": "people/lora", "revision": "v1"}
    fills = {"a": {"adapters": [adapter]}, "b": {"steps": 5}, "c": {"model": "people/large", "revision": "v2"}}
    assert named(fills=fills) == [
        ("fills.a.model", "people/small", "main"),
        ("fills.c.model", "people/large", "v2"),
        ("fills.a.adapters", "people/lora", "v1"),
    ]
    # Another variant consists of other files.
    assert len(named(fills={"a": {}, "b": {"variant": "fp16"}})) == 2


def test_the_model_that_is_adapted_is_named_even_if_no_fill_uses_it():
    fills = {"a": {"model": "people/large", "revision": "main"}}
    adaptation = {"output": "adapter"}
    assert [key for key, *_ in named(fills=fills, adaptation=adaptation)] == ["fills.a.model", "generation.model"]
    own = {**SETTINGS["generation"], "adapters": [{"kind": "lora", "model": "adapter"}]}
    assert named(generation=own, adaptation=adaptation) == [("generation.model", "people/small", "main")]


def test_what_the_workflow_trains_itself_and_local_files_are_not_downloaded(tiny_checkpoint):
    generator = {"images": "images.parquet", "output": "own"}
    assert named(generator=generator, generation={"model": "own"}) == []
    adapters = [{"kind": "lora", "model": "./adapter"}]  # other spellings of the same paths
    spelt = {"generation": {"model": "./own/", "adapters": adapters}, "adaptation": {"output": "adapter/"}}
    assert named(generator=generator, **spelt) == []
    assert named(generation={"model": str(tiny_checkpoint)}) == []


def test_weights_of_networks_are_named_if_they_are_those_of_the_library():
    recipes = {"a": {"data": "real"}, "b": {"data": "real", "stage1": {"pretrained": False}}}
    assert named(training=BACKBONE, recipes=recipes)[1:] == [("recipes.a.stage1.pretrained", VIT, None)]
    frozen = {"training": BACKBONE | {"freeze": "backbone"}, "screening": {"classifier": {}}}
    own = {"data": "real", "stage1": {"backbone": "resnet8", "pretrained": False, "freeze": "none"}}
    assert named(**frozen, recipes={"a": own})[1:] == [("training.pretrained", VIT, None)]


def test_a_data_set_is_named_if_it_may_be_downloaded():
    dataset = {"source": "torchvision", "name": "SVHN", "path": "data", "image_size": 32}
    assert len(named(dataset=dataset)) == 1
    assert named(dataset=dataset | {"download": True})[1:] == [("dataset.download", "SVHN", None)]
    dataset = {"source": "cifar10", "path": "data", "image_size": 32, "download": True}
    assert named(dataset=dataset)[1:] == [("dataset.download", "cifar10", None)]


@pytest.fixture
def nothing_cached(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)


EVERYTHING = {
    "dataset": {"source": "cifar10", "path": "data", "image_size": 64, "download": True},
    "generation": {"model": "people/small", "revision": "main"}
    | {"adapters": [{"kind": "lora", "model": "people/lora", "revision": "v1"}]},
    "screening": {"text_image": {"model": "people/clip", "revision": "main"}},
    "recipes": {
        "a": {"data": "real", "stage1": BACKBONE},
        "b": {"data": "real", "stage1": {"backbone": RESNET, "pretrained": True}},
    },
}


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        (["index_dataset", "measure_imbalance", "plan_generation", "estimate_cost"], []),
        (["convert_dataset"], ["dataset.download: cifar10"]),
        (["generate_shard"], GENERATION),
        (["score_real"], ["screening.text_image.model: people/clip"]),
        (
            ["train"],
            [f"recipes.{place}" for place in (f"a.stage1.pretrained: {VIT}", f"b.stage1.pretrained: {RESNET}")],
        ),
        # The jobs after the plan are not known yet.
        (["plan_generation", "compare_images"], [*GENERATION, "screening.text_image.model: people/clip"]),
        (["compare_images", "evaluate", "report"], []),
    ],
)
def test_offline_jobs_that_need_what_is_missing_are_refused(nothing_cached, rules, missing):
    with pytest.raises(UserError) if missing else nullcontext() as error:
        check_downloads(Config.model_validate(SETTINGS | EVERYTHING), rules, "mine.yaml")
    if missing:
        assert str(error.value) == (
            f"{', '.join(missing)}: not on this machine, and HF_HUB_OFFLINE=1 forbids to download it; "
            "run `HF_HUB_OFFLINE=0 synaug fetch mine.yaml` where there is a network"
        )


def test_a_plan_without_images_needs_no_model(nothing_cached):
    grouped = {"source": "table", "path": "t", "image_size": 64, "label_column": "name", "group_columns": ["place"]}
    jobs = ["plan_generation", "compare_images"]
    none = {"balance": {"strategy": "fixed", "target": 1, "max_synthetic_per_real": 1}}
    for changes in ({"balance": {"strategy": "fixed", "target": 1}}, none, none | {"dataset": grouped}):
        check_downloads(Config.model_validate(SETTINGS | changes), jobs, "mine.yaml")
    with pytest.raises(UserError, match=r"generation\.model"):  # an empty cell is filled
        check_downloads(
            Config.model_validate(
                SETTINGS | {"dataset": grouped, "balance": {"strategy": "fixed", "target": 1}}
            ), jobs, "mine.yaml",
        )  # fmt: skip


def test_online_nothing_is_refused(nothing_cached, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    check_downloads(Config.model_validate(SETTINGS | EVERYTHING), ["generate_shard", "train"], "mine.yaml")


def test_weights_and_data_sets_of_torchvision_are_downloaded_once(nothing_cached, tmp_path, monkeypatch):
    downloaded = []

    def download(url, file, hash_prefix, progress):
        downloaded.append((url, hash_prefix))
        (tmp_path / file).write_bytes(b"weights")

    class CIFAR10:
        def __init__(self, root, download):
            downloaded.append((root, download))

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    monkeypatch.setattr("torchvision.datasets.CIFAR10", CIFAR10)
    found = {one.name: one for one in downloads_of(Config.model_validate(SETTINGS | EVERYTHING))}
    file = found[RESNET].get(False)
    assert file == tmp_path / "torch/hub/checkpoints" / file.name
    assert found[RESNET].get(False) == found[RESNET].get(True) == file
    assert found["cifar10"].get(False).name == "data"
    assert downloaded == [(f"https://download.pytorch.org/models/{file.name}", file.stem.split("-")[1]), ("data", True)]
