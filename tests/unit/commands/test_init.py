"""`synaug init`: its description of the data, and the config that it writes."""

import json
import re
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from synaug import cli
from synaug.commands import init_settings
from synaug.commands.init import write_config
from synaug.commands.init_budget import fill_target
from synaug.commands.init_settings import choose_settings
from synaug.config import Config, load_config
from synaug.config.portfolio import PORTFOLIO
from synaug.datasets import index_dataset
from synaug.datasets.detect import DetectedDataset
from synaug.plan.prompts import cell_prompts
from synaug.plan.targets import wanted_counts
from synaug.runtime import machine
from synaug.runtime.errors import UserError
from synaug.runtime.machine import Machine
from synaug.screening.checkpoints import screening_network

ROOT = Path(__file__).resolve().parents[3]
CLASSES = {"red_shirt": 12, "bag": 6, "hat": 2}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """The folder of the workflow, as working directory, on a machine with two cores."""
    monkeypatch.setattr("synaug.commands.init.this_machine", Machine)
    (tmp_path / "Snakefile").touch()
    (tmp_path / "workflow_scripts/synaug").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def gpu(monkeypatch):
    """A function that gives this machine a GPU and a hub: gigabytes of memory, whether the hub answers, cached."""

    def pretend(gigabytes: float, hub: bool, cached: bool = False) -> None:
        monkeypatch.setattr("synaug.commands.init.this_machine", lambda: Machine("RTX", gigabytes))
        monkeypatch.setattr(init_settings, "hub_is_reachable", lambda: hub)
        monkeypatch.setattr(init_settings, "has_model", lambda model, revision: cached)

    return pretend


def written(name: str = "data") -> Config:
    return load_config(yaml.safe_load(Path(f"{name}.yaml").read_text()))


def prompts_of(config: Config, classes: list[str]) -> dict[str, list[str]]:
    return dict(zip(classes, cell_prompts(config.prompts, pd.DataFrame({"label_name": classes})), strict=True))


def split_counts(config: Config) -> dict[str, int]:
    return index_dataset(config.dataset)["split"].value_counts().to_dict()


def test_the_snakefile_of_another_workflow_is_not_started(image_folder, here):
    (here / "workflow_scripts/synaug").rmdir()
    image_folder(CLASSES)
    text = write_config(Path("data"))
    assert "synaug run data.yaml" in text and "snakemake --cores" not in text + Path("data.yaml").read_text()


def test_a_folder_of_classes(image_folder):
    image_folder(CLASSES)
    text = write_config(Path("data"))
    config = written()
    assert config.experiment == "data"
    assert config.dataset.source == "folder" and config.dataset.path == "data"
    assert (config.dataset.image_size, config.dataset.color) == (32, "grey")
    assert split_counts(config) == {"train": 13, "test": 4, "validation": 3}
    assert config.generation.model == config.generator.output == "results/data/generator"
    assert config.training.batch_size <= 16
    assert config.training.backbone == "resnet8"  # the images have 28 pixels
    assert list(config.recipes) == list(PORTFOLIO)
    assert (config.evaluation.choose_by, config.evaluation.baseline) == ("balanced", "real")
    assert config.screening.classifier.must_agree
    assert "20 images in 3 classes" in text
    assert "snakemake --cores all --configfile data.yaml" in text
    names = prompts_of(config, ["bag", "hat", "red_shirt"])
    assert names["red_shirt"] == ["a photo of a red shirt"]


@pytest.mark.parametrize(
    ("splits", "wanted"),
    [
        (["train", "test"], {"train": 17, "test": 20, "validation": 3}),
        (["train", "val"], {"train": 17, "val": 20, "validation": 3}),
        (["train", "validation"], {"train": 17, "validation": 20, "choice": 3}),
        (["Training", "Testing"], {"Training": 17, "Testing": 20, "validation": 3}),
        (["train", "validation", "test"], {"train": 20, "validation": 20, "test": 20}),
        (["train"], {"train": 13, "test": 4, "validation": 3}),
    ],
)
def test_folders_of_splits(image_folder, splits, wanted):
    image_folder({f"{split}/{name}": count for split in splits for name, count in CLASSES.items()})
    write_config(Path("data"))
    config = written()
    assert split_counts(config) == wanted
    assert set(index_dataset(config.dataset)["label_name"]) == set(CLASSES)


def write_table(pngs, kind: str, columns: dict[str, list]) -> Path:
    """A table of image files in the folder `some`, or with the images inside (parquet)."""
    Path("some").mkdir()
    count = len(next(iter(columns.values())))
    for number in range(count):
        Path(f"some/{number}.png").write_bytes(pngs[number])
    file = Path(f"some/table.{kind}")
    paths = [f"{number}.png" for number in range(count)]
    if kind == "parquet":
        image = pa.array([{"bytes": data, "path": None} for data in pngs[:count]])
        pq.write_table(pa.table({"picture": image, **columns}), file)
    elif kind == "csv":
        pd.DataFrame({"path": paths, **columns}).to_csv(file, index=False)
    else:
        rows = pd.DataFrame({"path": paths, **columns}).to_dict("records")
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_tables_with_the_usual_columns(pngs, kind):
    columns = {"category": ["a", "b"] * 6, "split": ["train"] * 8 + ["val"] * 4}
    write_config(write_table(pngs, kind, columns))
    config = written("table")
    assert split_counts(config) == {"train": 6, "val": 4, "validation": 2}
    assert set(index_dataset(config.dataset)["label_name"]) == {"a", "b"}


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_tables_with_other_columns_and_groups(pngs, kind):
    columns = {"what": ["a", "b"] * 10, "where": ["in", "in", "out", "out"] * 5}
    file = write_table(pngs, kind, columns)
    with pytest.raises(
        UserError, match=r"which column holds the class\? Name it with --label \(its columns: .*what, where"
    ):
        write_config(file)
    with pytest.raises(UserError, match=r"has no column 'how' .*--label"):
        write_config(file, label="how")
    text = write_config(file, label="what", groups=["where"])
    assert "4 cells (class and group) in 'train', with 3 to 3 images" in text
    config = written("table")
    assert split_counts(config) == {"train": 12, "test": 4, "validation": 4}
    assert config.dataset.group_columns == ["where"]
    assert "{group}" in config.prompts.templates[0]


def test_existing_files_stay_without_force(image_folder):
    image_folder(CLASSES)
    Path("data.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"data\.yaml: exists already; give --force"):
        write_config(Path("data"))
    assert Path("data.yaml").read_text() == "mine"
    assert not Path("data_names.csv").exists()
    write_config(Path("data"), force=True)
    assert written().experiment == "data"
    write_config(Path("data"), name="other")
    assert written("other").experiment == "other"


def test_faults_are_listed(image_folder, tmp_path):
    path = image_folder({"train/bag": 6, "train/hat": 3, "test/bag": 2, "test/hat": 2})
    (path / "train/bag/broken.png").write_text("no image")
    shutil.copy(path / "train/bag/0.png", path / "test/bag/copy.png")
    shutil.copy(path / "train/hat/0.png", path / "train/bag/hat.png")
    text = write_config(path)
    assert "1 file not used: is not an image of a known format" in text and "broken.png" in text
    assert "1 image in more than one split" in text and "copy.png" in text
    assert "1 image in more than one class" in text and "hat.png" in text


def test_a_class_without_a_test_image_is_named(image_folder):
    image_folder(CLASSES | {"glove": 1})
    assert "1 class without a test image, e.g. 'glove'" in write_config(Path("data"))


def test_size_and_colours_are_those_of_the_images(tmp_path):
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(5):
            pixels = random.integers(0, 256, (90, 120, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.jpg")
    Image.new("RGBA", (300, 300)).save(tmp_path / "data" / "a" / "glass.png")
    text = write_config(Path("data"))
    config = written()
    assert (config.dataset.image_size, config.dataset.color, config.generator.size) == (224, "rgb", 32)
    assert (config.training.backbone, config.training.pretrained) == ("timm/tf_efficientnet_lite0", "embedded")
    assert config.training.freeze == "backbone"
    assert list(config.fills) == ["from_text", "from_real"] and "synaug_from_real" in config.recipes
    assert "1 of them have transparent areas" in text


@pytest.mark.parametrize("name", ["007", "null", "with space", "ünï", "1e5", "-x"])
def test_any_name_of_a_folder_makes_a_valid_config(image_folder, name):
    image_folder(CLASSES).rename(name)
    write_config(Path(name))
    (file,) = Path().glob("*.yaml")
    config = load_config(yaml.safe_load(file.read_text()))
    assert config.dataset.path == name
    assert config.experiment == file.stem


@pytest.mark.parametrize("name", ["it's", 'the "best"', "a,b", "Äpfel 苹果", "{label}"])
def test_any_name_of_a_class_is_kept(image_folder, name):
    image_folder({name: 4, "z": 4})
    write_config(Path("data"))
    assert prompts_of(written(), [name, "z"])[name] == [f"a photo of a {name}"]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"a": 3}, "holds one folder, 'a'.*synaug init data/a"),
        ({"train/a": 3, "test/a": 3}, "one class"),
        ({".": 3}, "holds no folders; put the images into <class>/"),
        ({"a": 3, "b": 0}, "b: is an empty folder"),
    ],
)
def test_unusable_folders_are_refused_with_the_reason(image_folder, counts, message):
    image_folder(counts)
    with pytest.raises(UserError, match=message):
        write_config(Path("data"))
    assert not list(Path().glob("*.yaml"))


def test_a_path_that_the_workflow_refuses_is_refused_at_once(image_folder):
    image_folder({"a": 3, "b": 3}).rename("{b}r")
    with pytest.raises(UserError, match="has a brace in its name"):
        write_config(Path("{b}r"))


def test_an_empty_name_is_refused(image_folder):
    image_folder({"a": 3, "b": 3})
    with pytest.raises(UserError, match="--name: is empty"):
        write_config(Path("data"), name="")


@pytest.mark.parametrize(("current", "path"), [("data", "."), ("data/own", ".."), ("data/b", "../../data")])
def test_a_folder_that_would_hold_its_own_results_is_refused(image_folder, monkeypatch, current, path):
    image_folder({"a": 3, "b": 3})
    Path(current).mkdir(exist_ok=True)
    monkeypatch.chdir(current)
    advice = "call the workflow from a folder outside the data set"
    with pytest.raises(
        UserError, match=rf"contains the current folder, so the results \(.*/results\) would be read; {advice}$"
    ):
        write_config(Path(path), "mine")
    assert not Path("mine.yaml").exists()


def test_results_may_lie_where_no_image_is_searched(image_folder, pngs, monkeypatch, here):
    image_folder({f"{split}/{name}": count for split in ("train", "test") for name, count in CLASSES.items()})
    monkeypatch.chdir("data")
    for _ in range(2):  # then with results beside the splits
        assert "40 images in 3 classes" in write_config(Path("."), "mine", force=True)
        Path("results/mine").mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(here)
    write_table(pngs, "csv", {"label": ["a", "b"] * 6})
    monkeypatch.chdir("some")
    assert "12 images in 2 classes" in write_config(Path("table.csv"))


def test_folders_below_a_class_are_named(image_folder):
    image_folder({"a/train": 4, "a/test": 2, "b/train": 4, "b": 2})
    assert "the class folders hold folders ('test', 'train'): all images below a class folder are of this" in " ".join(
        write_config(Path("data")).split()
    )


def test_a_csv_with_other_separators_is_named(tmp_path):
    Path("t.csv").write_text("image;label\na.png;x\n")
    with pytest.raises(UserError, match="its columns are separated by ';'; save it with commas"):
        write_config(Path("t.csv"))


@pytest.mark.parametrize("column", ["image", "label", "split", "site"])
def test_a_column_that_occurs_twice_is_named(tmp_path, column):
    Path("t.csv").write_text(f"image,label,split,site,{column}\na.png,x,train,a,b\n")
    with pytest.raises(UserError, match=rf"t\.csv: has 2 columns '{column}'; rename all but one"):
        write_config(Path("t.csv"), groups=["site"])


def test_a_later_table_without_the_column_of_the_splits_is_named(tmp_path):
    Path("tables").mkdir()
    columns = {"image": ["a.png"], "label": ["x"]}
    pq.write_table(pa.table(columns | {"split": ["train"]}), "tables/1.parquet")
    pq.write_table(pa.table(columns), "tables/2.parquet")
    with pytest.raises(UserError, match=r"2\.parquet: has no column 'split' \(its columns: image, label\)"):
        write_config(Path("tables"))


def test_a_folder_with_a_table_of_its_images_points_at_it(pngs):
    write_table(pngs, "csv", {"label": ["a", "b"] * 3})
    with pytest.raises(UserError, match=r"call: synaug init some/table\.csv"):
        write_config(Path("some"))


def test_the_fill_has_a_limit():
    counts = pd.Series([30_000, 5_000, 10])
    target = fill_target(counts, 20_000)
    assert 19_900 < (target - counts).clip(lower=0).sum() <= 20_000
    assert fill_target(pd.Series([300, 10, 10]), 1000) == 300


def test_not_more_images_are_generated_than_there_are_real_ones(image_folder):
    image_folder({"a": 60, "b": 4, "c": 4, "d": 4})
    text = write_config(Path("data"))
    config = written()
    counts = split_counts(config)
    assert config.balance.strategy == "fixed"
    assert 0 < 3 * (config.balance.target - 2) <= counts["train"]
    assert "too few for such a generator" in text  # 45 training images


def test_classes_of_one_to_three_images_get_a_config(image_folder):
    image_folder({"a": 12, "single": 1, "pair": 2, "three": 3})
    text = write_config(Path("data"))
    assert "1 class without a test image, e.g. 'single'" in text
    assert "3 classes without a validation image" in text
    rows = index_dataset(written().dataset)
    assert rows[rows["split"] == "train"].groupby("label_name").size()["single"] == 1


def test_without_a_validation_image_no_recipe_is_chosen(image_folder):
    image_folder({"a": 3, "b": 3, "c": 2})
    text = write_config(Path("data"))
    assert "every class is too small for a validation image" in text
    config = written()
    assert config.dataset.validation_split is None and config.evaluation.choose_by is None
    assert split_counts(config) == {"train": 5, "test": 3}


@pytest.mark.parametrize("hub", [True, False])
def test_a_large_gpu_trains_a_pretrained_network_in_full(image_folder, gpu, hub):
    image_folder(CLASSES)
    gpu(24, hub)
    text = write_config(Path("data"))
    config = written()
    assert config.training.pretrained == (True if hub else "embedded")
    assert (config.training.freeze, config.training.backbone_rate) == ("none", 0.1)
    assert screening_network(config.training)["pretrained"] == config.training.pretrained
    assert config.screening.classifier.steps == 100  # as many as on a CPU: the last layer of such a network
    assert config.dataset.image_size == 224
    assert "RTX" in text
    if hub:
        assert config.generation.model.startswith("stable-diffusion") and config.generator is None
        assert "adapt the model" in text
        assert config.adaptation.steps == 1500
        assert config.screening.leakage.max_hash_distance == 4  # an adapted model may copy the training images
        assert [adapter.model for adapter in config.generation.adapters] == [config.adaptation.output]
    else:
        assert config.generation.model == config.generator.output
        assert "the hub cannot be reached" in text


def test_without_the_package_peft_the_public_model_is_not_adapted(image_folder, gpu, monkeypatch):
    image_folder(CLASSES)
    gpu(24, hub=True)
    monkeypatch.setattr(init_settings, "find_spec", lambda package: None)
    text = write_config(Path("data"))
    assert written().adaptation is None and written().generation.adapters == []
    assert written().screening.leakage is None
    assert "pip install 'synaug[lora]'" in " ".join(text.split())


def test_a_model_in_the_cache_needs_no_hub(image_folder, gpu):
    image_folder(CLASSES)
    gpu(8.2, hub=False, cached=True)
    assert "from the local cache" in write_config(Path("data"))
    assert written().generation.model.startswith("stable-diffusion")


def test_a_small_gpu_changes_nothing(image_folder, gpu):
    image_folder(CLASSES)
    gpu(4, hub=True)
    write_config(Path("data"))
    assert written().generator is not None and written().training.backbone == "resnet8"


def test_without_a_gpu_nobody_asks_the_hub(image_folder, monkeypatch):
    image_folder(CLASSES)
    monkeypatch.setattr("synaug.commands.init.this_machine", Machine)
    monkeypatch.setattr(init_settings, "hub_is_reachable", lambda: pytest.fail("the hub was asked"))
    write_config(Path("data"))


def test_offline_means_that_no_connection_is_tried(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.get_session", lambda: pytest.fail("a connection was tried"))
    assert not machine.hub_is_reachable()


def test_a_hub_that_does_not_answer_is_given_up(monkeypatch):
    ended = threading.Event()

    class Session:
        def head(self, url: str, timeout: float) -> None:
            ended.wait()

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_session", Session)
    monkeypatch.setattr(machine, "_HUB_TIMEOUT_S", 0.1)
    assert not machine.hub_is_reachable()  # or this test never ends
    ended.set()


def detected_sizes(sizes: list[int], side: int) -> DetectedDataset:
    """A data set with classes of these sizes, which is not on the disk. side: of its images, pixels."""
    rows = pd.DataFrame({"label_name": [f"class {i}" for i, count in enumerate(sizes) for _ in range(count)]})
    rows = rows.assign(split="train", usable=True, width=side, height=side, label=0, group="")
    return DetectedDataset({"source": "folder", "path": "x", "validation_split": "validation"}, rows)


LONG_TAIL = [600, 300, 150, 100, 76]  # 1,226 images


@pytest.mark.parametrize("side", [28, 64, 300])
@pytest.mark.parametrize("scale", [0.2, 1, 5])
def test_a_first_look_on_two_cores_takes_at_most_20_minutes(side, scale):
    settings = choose_settings(detected_sizes([int(scale * size) for size in LONG_TAIL], side), Machine())
    assert settings.budget == 20
    assert 5 < settings.total_minutes <= 20


SIZES_OF_40_CLASSES = [200, 180, 160, 140, *[100] * 14, *[50] * 12, *[20] * 10]  # 2,880 images


def test_a_large_gpu_takes_at_most_three_hours_with_the_adaptation(gpu):
    gpu(24, hub=True)
    settings = choose_settings(detected_sizes(SIZES_OF_40_CLASSES, 300), Machine("RTX", 24))
    assert settings.budget == 180 and settings.adaptation_steps == 1500
    assert settings.minutes["adaptation"] > 30
    assert 120 < settings.total_minutes <= 180


@pytest.mark.parametrize("machine", [Machine(), Machine("RTX", 24)])
@pytest.mark.parametrize("side", [28, 300])
def test_parts_are_given_up_in_order_until_the_run_fits_into_the_budget(gpu, machine, side):
    gpu(24, hub=True)
    detected = detected_sizes(SIZES_OF_40_CLASSES, side)
    full = choose_settings(detected, machine, 1000)
    assert full.given_up == ()
    before, order = full, []
    for budget in range(int(full.total_minutes), 0, -1):
        settings = choose_settings(detected, machine, budget)
        assert settings.total_minutes <= budget or settings.seeds == 1
        # What is lost in comparison with a larger budget.
        if settings.seeds < before.seeds:
            order.append("seeds")
        elif settings.synthetic_images == 0 < before.synthetic_images:
            order.append("generator")
        elif _steps(settings) < _steps(before):
            order.append("steps")
        elif len(settings.recipes) < len(before.recipes):
            order.append("recipes")
        elif settings.synthetic_images < before.synthetic_images:
            order.append("images")
        before = settings
    assert list(dict.fromkeys(order)) == ["images", "recipes", "steps", "generator", "seeds"]
    assert order == sorted(order, key=["images", "recipes", "steps", "generator", "seeds"].index)


def _steps(settings) -> int:
    """Steps of the generator or of the adaptation."""
    return settings.adaptation_steps if settings.public_model else settings.denoiser_steps


def test_more_cores_train_more_networks_at_once():
    detected = detected_sizes(LONG_TAIL, 28)
    one, two, many = (choose_settings(detected, Machine(cores=cores), 1000).minutes for cores in (1, 2, 64))
    assert one["networks"] == pytest.approx(2 * two["networks"])
    # The last network waits for the others: two networks one after the other in place of eight.
    assert many["networks"] == pytest.approx(two["networks"] * 2 / 6.5)
    assert two["generator"] == many["generator"]


def test_the_estimate_agrees_with_the_measured_minutes():
    """The runs of benchmarks/results/own_folders.json on a machine that did little else."""
    measured = json.loads((ROOT / "benchmarks/results/own_folders.json").read_text())["sets"]
    for name, side in (("clothing", 28), ("openclipart", 800)):
        images = measured[name]["images"]
        per_class = 2 * images["train"] / measured[name]["classes"]
        sizes = np.linspace(0.2 * per_class, 1.8 * per_class, measured[name]["classes"]).astype(int)
        detected = detected_sizes(sizes.tolist(), side)
        settings = choose_settings(detected, Machine(), 1000)
        assert measured[name]["minutes"] / 1.3 < settings.total_minutes < 1.3 * measured[name]["minutes"]


def test_the_text_and_the_config_state_estimate_budget_and_what_is_given_up(image_folder):
    image_folder({"a": 60, "b": 20, "c": 10})
    text = write_config(Path("data"), budget_minutes=15)
    head = " ".join(
        line.removeprefix("#").strip() for line in Path("data.yaml").read_text().split("experiment:")[0].splitlines()
    )
    for shown in (" ".join(text.split()), head):
        assert re.search(r"It takes about 1\d minutes on two cores without a GPU: generator \d+, .*networks \d+", shown)
        assert "The budget is 15 minutes. Given up for it: " in shown and "recipes instead of 7" in shown
    config = written()
    assert 4 <= len(config.recipes) < 7 and config.evaluation.choose_by == "balanced"
    assert {"real", "real_rebalanced", "real_mixed", "filled_as_many_as_real"} <= set(config.recipes)


def test_a_large_folder_with_a_small_budget_uses_real_images_only(image_folder):
    image_folder({"train/a": 90, "train/b": 5, "train/c": 1, "test/a": 2, "test/b": 2, "test/c": 2})
    text = write_config(Path("data"), budget_minutes=9)
    config = written()
    assert list(config.recipes) == ["real", "real_rebalanced", "real_mixed"]
    assert config.generator is None and not config.fills and config.screening.classifier is None
    assert "Given up for it: synthetic images and the recipes with them" in text
    assert "longer than the budget" not in text
    cells = pd.DataFrame({"count": [77, 4, 1], "label_name": ["a", "b", "c"]})
    assert wanted_counts(cells, config.balance).sum() == 0


def test_no_synthetic_image_is_made_for_an_empty_cell_without_a_generator(pngs):
    columns = {"label": ["a", "a", "b"] * 4, "place": ["in", "out", "in"] * 4}
    write_config(write_table(pngs, "csv", columns), groups=["place"], budget_minutes=9)
    cells = pd.DataFrame({"count": [4, 4, 4, 0], "label_name": list("aabb"), "group": ["in", "out"] * 2})
    assert wanted_counts(cells, written("table").balance).sum() == 0


def test_classes_of_equal_size_need_no_generator(image_folder):
    image_folder({"a": 20, "b": 20})
    text = write_config(Path("data"))
    assert "no class is smaller than another" in text and "Nothing is given up for it" in text
    assert written().generator is None


def test_a_budget_that_is_too_small_is_named_in_one_line(image_folder):
    image_folder({"a": 60, "b": 20, "c": 10})
    text = write_config(Path("data"), budget_minutes=1)
    [line] = [line for line in text.splitlines() if line.startswith("Even the smallest run that makes sense")]
    minutes = int(re.search(r"takes longer than the budget: about (\d+) minutes", line)[1])
    assert "The budget is 1 minute. Given up for it: " in text
    assert 2 <= minutes <= 10
    assert f"# {line}" in Path("data.yaml").read_text().splitlines()
    assert written().seeds == [0]


@pytest.mark.parametrize("budget", [0, -3, float("nan"), float("inf")])
def test_a_budget_that_is_no_time_is_refused(image_folder, budget):
    image_folder(CLASSES)
    with pytest.raises(UserError, match=r"^--budget-minutes: \S+ is not a number of minutes above 0; give") as error:
        write_config(Path("data"), budget_minutes=budget)
    assert "\n" not in str(error.value)
    assert not Path("data.yaml").exists()


@pytest.fixture
def search(monkeypatch):
    """The search for faults, without a network: what it finds in the images of the class `bag`."""

    def find(rows: pd.DataFrame, dataset, threads: int) -> pd.DataFrame:
        train = rows.index[(rows["label_name"] == "bag") & (rows["split"] == "train")]
        rows = rows.assign(label_quality=0.5, suggested_label=None, outlier_score=0.0, duplicate_of=None, leak_of=None)
        rows.loc[train[:2], "suggested_label"] = "hat"
        rows.loc[train[:2], "label_quality"] = [0.02, 0.01]
        rows.loc[train[2], "leak_of"] = rows.loc[rows["split"] == "test", "image_id"].iloc[0]
        return rows

    monkeypatch.setattr("synaug.datasets.fault_search.find_faults", find)
    monkeypatch.setattr("synaug.commands.init.find_spec", lambda name: True)


def test_the_worst_faults_are_named_and_the_config_looks_for_them(image_folder, search, monkeypatch, capsys):
    image_folder({"bag": 20, "hat": 10})
    assert "may be wrong" not in write_config(Path("data"), "few") and not written("few").dataset.faults.find
    monkeypatch.setattr("synaug.commands.init.FEWEST_FOR_FAULTS", 10)
    text = write_config(Path("data"), "enough")
    assert re.search(
        r"""  2 labels may be wrong; the most doubtful:
    data/bag/\d+.png: is labelled 'bag', looks like 'hat'
    data/bag/\d+.png: is labelled 'bag', looks like 'hat'
  1 image nearly the same as an image of a held-out split, .*, such as data/bag/\d+.png and data/""",
        text,
    )
    assert written("enough").dataset.faults.model_dump() == {"find": True, "drop": []}
    assert re.search(r"Looking for wrong labels and other faults: about \d+ s", capsys.readouterr().err)


def test_a_search_that_takes_long_or_lacks_its_package_is_left_out_with_the_reason(image_folder, search, monkeypatch):
    image_folder({"bag": 20, "hat": 10})
    monkeypatch.setattr("synaug.commands.init.FEWEST_FOR_FAULTS", 10)
    monkeypatch.setattr("synaug.commands.init.find_spec", lambda name: None)
    assert "the package cleanlab is missing; pip install 'synaug[faults]'" in write_config(Path("data"), "without")
    monkeypatch.setattr("synaug.commands.init.FAULT_SECONDS", 0)
    assert "dataset.faults.find: true does it" in write_config(Path("data"), "long")
    assert not written("without").dataset.faults.find and not written("long").dataset.faults.find


def test_the_command(image_folder, capsys, monkeypatch):
    image_folder(CLASSES)

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["synaug", "init", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    status, out, err = call("data", "--name", "mine")
    assert (status, err) == (0, "")
    assert "--configfile mine.yaml" in out
    status, out, err = call("data", "--name", "short", "--budget-minutes", "9")
    assert (status, err) == (0, "") and "The budget is 9 minutes" in out
    status, out, err = call("data", "--name", "wrong", "--budget-minutes", "-1")
    assert (status, out) == (2, "")
    assert err.startswith("synaug: error: --budget-minutes: -1 is not") and err.count("\n") == 1
    status, out, err = call("nowhere")
    assert (status, out) == (2, "")
    assert err.startswith("synaug: error: nowhere: does not exist") and err.count("\n") == 1
