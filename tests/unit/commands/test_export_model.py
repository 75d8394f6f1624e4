"""`synaug export-model`: a network that can be used without the workflow, and its model card."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from synaug.manifests import write_manifest
from synaug.networks.classifier import Classifier, load_classifier, save_classifier
from synaug.runtime.files import file_hash

CLASSES = ["cat", "T-shirt|top"]


def save_network(folder, backbone: str = "resnet8", channels: int = 1, head: str = "linear", size: int = 16):
    torch.manual_seed(0)
    network = Classifier(backbone, 8 if "/" not in backbone else None, CLASSES, size, channels, head)
    network.set_normalisation(torch.randint(0, 256, (10, channels, size, size), dtype=torch.uint8))
    save_classifier(network, folder / "model.safetensors")
    return network.eval()


@pytest.fixture
def trained(tmp_path, plan):
    """results/e with the networks of two recipes and the tables of their figures."""
    home = tmp_path / "results/e"
    keys = [
        {"recipe": recipe, "stage": stage, "metric": metric, "subset": subset, "weighting": "images"}
        for recipe, stage in (("real", "train"), ("synaug", "train"), ("synaug", "finetune"))
        for metric, subset in (("accuracy", "all"), ("accuracy", "few"), ("accuracy", "class:cat"), ("ece", "all"))
    ]
    rows = pd.DataFrame(keys).assign(mean=0.5, low=0.4, high=0.6, seeds=3, real_images=3)
    rows.loc[rows["stage"] == "finetune", "mean"] = 0.7654
    write_manifest(
        "summary", rows.assign(synthetic_images=np.where(rows["recipe"] == "real", 0, 2)), home / "summary.parquet"
    )
    seeds = [pd.DataFrame(keys).assign(seed=seed, value=0.1 * seed + 0.3, low=0.2, high=0.9) for seed in range(3)]
    write_manifest("metrics", pd.concat(seeds), home / "metrics.parquet")
    write_manifest("plan", plan.assign(licence="CC-BY"), home / "plan.parquet")
    images = {"image_id": list("abcde"), "label": [0, 1, 1, 0, 0], "source": ["real"] * 3 + ["synthetic"] * 2}
    images = pd.DataFrame(images).assign(
        label_name=["cat", *CLASSES[1:] * 2, "cat", "cat"], weight=1.0, sha256="0" * 64
    )
    write_manifest("balanced", images, home / "balanced.parquet")
    save_network(home / "train/real/0")
    return home, save_network(home / "finetune/synaug/2")


def test_the_folder_is_enough_to_use_the_network(synaug, trained, tmp_path):
    """With ONNX and model.json alone, the probabilities are those of the network."""
    home, network = trained
    status, out, _ = synaug("export-model", home / "finetune/synaug/2", tmp_path / "out")
    assert status == 0
    assert out.splitlines()[-1].endswith("out: README.md, model.json, model.onnx, model.safetensors")
    images = np.random.default_rng(1).integers(0, 256, (5, 1, 16, 16), np.uint8)
    code = "import json, sys, numpy, onnxruntime; about = json.load(open('model.json'))\n"
    code += "run = onnxruntime.InferenceSession('model.onnx').run\n"
    code += "print(json.dumps([about['classes'], run(None, {'images': numpy.load('images.npy')})[0].tolist()]))\n"
    code += "assert 'torch' not in sys.modules and 'synaug' not in sys.modules"
    np.save(tmp_path / "out/images.npy", images)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    classes, probabilities = json.loads(done.stdout)
    assert classes == CLASSES
    np.testing.assert_allclose(probabilities, network.probabilities(torch.from_numpy(images)), atol=1e-4)
    # The weights are those of the network, and it can be loaded from the file.
    again = load_classifier(tmp_path / "out/model.safetensors").state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in network.state_dict().items())
    about = json.loads((tmp_path / "out/model.json").read_text())
    assert (about["backbone"], about["width"], about["head"]) == ("resnet8", 8, "linear")
    assert (about["recipe"], about["stage"], about["seed"], about["experiment"]) == ("synaug", "finetune", 2, "e")
    assert (about["image"]["size"], about["image"]["color"]) == (16, "grey")
    np.testing.assert_allclose(
        about["normalisation"]["mean"], load_file(tmp_path / "out/model.safetensors")["mean"].flatten()
    )


def test_the_card_states_training_data_and_results(synaug, trained, tmp_path):
    home, _ = trained
    assert synaug("export-model", home / "finetune/synaug/2", tmp_path / "out", "--no-onnx")[0] == 0
    card = (tmp_path / "out/README.md").read_text()
    assert "3 real and\n2 synthetic images" in card
    assert "| accuracy, all images | 76.5 [40.0, 60.0] | 50.0 [20.0, 90.0] |" in card
    assert "| 0 | cat | 1 | 2 | 76.5 |" in card
    assert "| 1 | T-shirt\\|top | 2 | 0 | - |" in card
    assert "Licence: CC-BY." in card
    assert "onnx" not in card and not (tmp_path / "out/model.onnx").exists()


def test_the_card_of_a_network_of_real_images_names_no_generator(synaug, trained, tmp_path):
    home, _ = trained
    assert synaug("export-model", home / "train/real/0", tmp_path / "out", "--no-onnx")[0] == 0
    card = (tmp_path / "out/README.md").read_text()
    assert "3 real and\n0 synthetic images" in card and "| 0 | cat | 1 | 0 | 50.0 |" in card
    assert "Generator" not in card and "fine-tuned" not in card


def test_the_same_network_gives_the_same_files(synaug, trained, tmp_path):
    home, _ = trained
    for name in "ab":
        synaug("export-model", home / "finetune/synaug/2", tmp_path / name, "--no-onnx")
    for file in ("model.safetensors", "model.json", "README.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_an_exported_network_predicts(synaug, trained, tmp_path, pngs):
    home, _ = trained
    synaug("export-model", home / "finetune/synaug/2", tmp_path / "out", "--no-onnx")
    (tmp_path / "a.png").write_bytes(pngs[0])
    before = synaug("predict", tmp_path / "a.png", "--model", home / "finetune/synaug/2")
    assert before[0] == 0 and synaug("predict", tmp_path / "a.png", "--model", tmp_path / "out") == before


def test_user_errors_are_one_line_and_leave_nothing(synaug, trained, tmp_path, monkeypatch):
    home, _ = trained
    model = home / "finetune/synaug/2"
    save_network(tmp_path / "elsewhere")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    for arguments, message in (
        ([tmp_path / "gone", tmp_path / "out"], "gone: no such file"),
        ([tmp_path / "elsewhere", tmp_path / "out"], "is no network of an experiment"),
        ([model, tmp_path / "full", "--no-onnx"], "full: exists already and is not empty"),
        ([model, tmp_path / "out"], "pip install 'synaug[onnx]', or add --no-onnx"),
    ):
        status, out, err = synaug("export-model", *arguments)
        assert (status, out) == (2, "") and message in err and err.count("\n") == 1
    (home / "summary.parquet").unlink()
    assert "run the workflow" in synaug("export-model", model, tmp_path / "out", "--no-onnx")[2]
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def choose(home, chosen: str) -> None:
    """The manifest `chosen`: this recipe, of the two."""
    figures = {"validation": 0.8, "standard_error": 0.01, "gain": 0.1, "gain_standard_error": 0.01}
    candidates = pd.DataFrame({"recipe": ["real", "synaug"], "stage": ["train", "finetune"]})
    candidates = candidates.assign(
        **figures, synthetic=True, metric="balanced", images=9, seeds=1, reason=f"{chosen} is better.",
        chosen=candidates["recipe"] == chosen,
    )  # fmt: skip
    write_manifest("chosen", candidates, home / "chosen.parquet")


def train_final(home, seed: int) -> None:
    """A final network: its weights and its predictions."""
    save_network(home / f"final/{seed}")
    predictions = {"image_id": ["a"], "split": "test", "label": 0, "label_name": "cat", "group": "", "predicted": 0}
    predictions = pd.DataFrame(predictions).assign(probabilities=[[0.75, 0.25]], image_id=[f"a{seed}"])
    write_manifest("predictions", predictions, home / f"final/{seed}/predictions.parquet")


def report_final_networks(home, *seeds: int) -> None:
    """What the report says of the choice and of the final networks of these seeds."""
    files = ["chosen.parquet", *(f"final/{seed}/predictions.parquet" for seed in seeds)]
    shown = json.dumps({name: file_hash(home / name) for name in files})
    page = f'<script type="application/json" id="final-networks">{shown}</script>'
    (home / "report.html").write_text(page)


def test_the_folder_of_an_experiment_with_a_choice_stands_for_its_final_network(trained, synaug, tmp_path):
    home, _ = trained
    choose(home, "synaug")
    train_final(home, 1)
    report_final_networks(home, 1)
    assert synaug("export-model", home, tmp_path / "out", "--no-onnx")[0] == 0
    about = json.loads((tmp_path / "out/model.json").read_text())
    assert (about["recipe"], about["stage"], about["seed"]) == ("synaug", "finetune", 1)
    card = (tmp_path / "out/README.md").read_text()
    assert "and on the validation images" in card and "76.5" in card
    # The figures are those of another network, and the card does not call it this one.
    assert about["trained_on_validation_images"] and "| | mean over seeds | seed 1 |" in card
    assert "this network over" not in card


def test_a_final_network_of_earlier_seeds_is_not_taken(trained, synaug, tmp_path):
    home, _ = trained
    choose(home, "synaug")
    for seed in (0, 5, 11):
        train_final(home, seed)
    report_final_networks(home, 11, 5)
    assert synaug("export-model", home, tmp_path / "out", "--no-onnx")[0] == 0
    assert json.loads((tmp_path / "out/model.json").read_text())["seed"] == 5
    status, _, err = synaug("export-model", home / "final/0", tmp_path / "old", "--no-onnx")
    assert status == 2 and err.endswith(f"final/0: the config has no such seed; name {home}\n")


def test_until_the_run_has_finished_no_final_network_stands_for_the_new_choice(trained, synaug, tmp_path, pngs):
    home, _ = trained
    (tmp_path / "a.png").write_bytes(pngs[0])
    choose(home, "real")

    def refused() -> str:
        for arguments in (
            ["predict", tmp_path / "a.png", "--model", home],
            ["export-model", home, tmp_path / "out"],
        ):
            status, out, err = synaug(*arguments)
            assert (status, out, err.count("\n")) == (2, "", 1) and err.endswith("; run the workflow again\n")
        return err

    assert "is missing or old" in refused()  # chosen for the first time
    train_final(home, 0)
    refused()
    report_final_networks(home, 0)
    assert synaug("predict", tmp_path / "a.png", "--model", home)[0] == 0
    choose(home, "synaug")  # with changed settings
    refused()
    assert synaug("export-model", home / "final/0", tmp_path / "out")[0] == 2
    report_final_networks(home, 0)
    (home / "final/0/predictions.parquet").unlink()  # as Snakemake does before it trains it again
    assert "is not the network that the report shows" in refused()
    assert not (tmp_path / "out").exists()


def test_a_network_that_is_named_itself_needs_no_report(trained, synaug, tmp_path, pngs):
    home, _ = trained
    choose(home, "synaug")
    (tmp_path / "a.png").write_bytes(pngs[0])
    assert synaug("predict", tmp_path / "a.png", "--model", home / "train/real/0")[0] == 0
    assert synaug("export-model", home / "train/real/0", tmp_path / "out", "--no-onnx")[0] == 0
    status, _, err = synaug("predict", tmp_path / "a.png", "--model", home)
    missing = "report.html, which says which final networks belong to the choice, is missing or old"
    assert (status, err) == (2, f"synaug: error: {home}: {missing}; run the workflow again\n")


def test_an_experiment_whose_config_chooses_no_more_says_so(trained, synaug, tmp_path):
    home, _ = trained
    choose(home, "synaug")
    train_final(home, 0)
    config = json.dumps({"evaluation": {"choose_by": None}})
    (home / "report.html").write_text(f'<pre aria-label="The whole config">{config}</pre>')
    assert "this experiment chooses no recipe" in synaug("export-model", home, tmp_path / "out")[2]


def test_the_card_names_the_split_of_a_last_layer_that_was_trained_on_validation_images(trained, synaug, tmp_path):
    home, _ = trained
    config = {"recipes": {"synaug": {"data": "balanced", "fill": None, "stage2": {"split": "val"}}}}
    (home / "report.html").write_text(f'<pre aria-label="The whole config">{json.dumps(config)}</pre>')
    assert synaug("export-model", home / "finetune/synaug/2", tmp_path / "out", "--no-onnx")[0] == 0
    card = (tmp_path / "out/README.md").read_text()
    assert "Its last layer was trained on the real images of the split `val`." in card
    assert "| | mean over seeds | this network |" in card


def save_another_seed(home, *network):
    """A network of `home` with figures of its own: its folder, and itself."""
    metrics = pd.read_parquet(home / "metrics.parquet")
    metrics = pd.concat([metrics, metrics[metrics["seed"] == 2].assign(seed=3)])
    write_manifest("metrics", metrics, home / "metrics.parquet")
    return home / "finetune/synaug/3", save_network(home / "finetune/synaug/3", *network)


@pytest.mark.parametrize(
    ("backbone", "channels"), [("timm/test_vit", 1), ("timm/test_vit.r160_in1k", 3), ("timm/test_resnet", 3)]
)
def test_a_network_of_timm_is_loaded_by_timm(synaug, trained, tmp_path, pngs, backbone, channels):
    import timm
    from PIL import Image

    home, _ = trained
    model, network = save_another_seed(home, backbone, channels, "linear", 32)
    status, out, err = synaug("export-model", model, tmp_path / "out", "--no-onnx")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].endswith("out: README.md, config.json, model.json, model.safetensors")
    loaded = timm.create_model(f"local-dir:{tmp_path}/out", pretrained=True).eval()
    assert loaded.pretrained_cfg["label_names"] == CLASSES and loaded.num_classes == 2
    about = json.loads((tmp_path / "out/config.json").read_text())["pretrained_cfg"]
    assert not {"tag", "license", "origin_url"}.intersection(about)  # of other weights
    (tmp_path / "a.png").write_bytes(pngs[0])
    image = Image.open(tmp_path / "a.png").convert("L" if channels == 1 else "RGB").resize((32, 32))
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(loaded))
    pixels = torch.from_numpy(np.array(image)).reshape(1, 32, 32, channels).permute(0, 3, 1, 2)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(transform(image)[None]), network(pixels), rtol=0, atol=1e-4)
    # synaug reads the same file.
    before = synaug("predict", tmp_path / "a.png", "--model", model)
    assert before[0] == 0 and synaug("predict", tmp_path / "a.png", "--model", tmp_path / "out") == before
    card = (tmp_path / "out/README.md").read_text()
    assert "library_name: timm" in card and 'timm.create_model("local-dir:.", pretrained=True)' in card


def test_the_card_of_a_network_that_timm_lacks_says_so(synaug, trained, tmp_path):
    home, _ = trained
    save_network(home / "train/real/0", "timm/test_resnet", 3, "cosine", 32)
    reasons = {"finetune/synaug/2": "is not one of theirs", "train/real/0": "has a last layer that timm lacks"}
    for name, reason in reasons.items():
        assert synaug("export-model", home / name, tmp_path / name, "--no-onnx")[0] == 0
        card = (tmp_path / name / "README.md").read_text()
        assert "library_name: synaug" in card and reason in card and not (tmp_path / name / "config.json").exists()


def test_it_is_uploaded_and_timm_loads_it_from_the_hub(synaug, trained, tmp_path, empty_hub, monkeypatch):
    model, network = save_another_seed(trained[0], "timm/test_vit", 3, "linear", 32)
    monkeypatch.chdir(tmp_path)
    status, out, err = synaug("export-model", model, "--no-onnx", "--hub", "classifier")
    assert (status, err) == (0, ""), err
    assert out.splitlines()[-1] == f"{empty_hub.url}/people/classifier"
    asked = {"name": "classifier", "organization": "people", "visibility": "private", "type": "model"}
    assert empty_hub.created == [asked]
    names = ["README.md", "config.json", "model.json", "model.safetensors"]
    assert sorted(empty_hub.files(empty_hub.root / "people/classifier")) == names
    assert '"hf-hub:people/classifier", pretrained=True' in (tmp_path / "classifier/README.md").read_text()
    images = torch.zeros(1, 3, 32, 32)
    code = "import timm, torch; model = timm.create_model('hf-hub:people/classifier', pretrained=True).eval()\n"
    code += "print(model(torch.zeros(1, 3, 32, 32))[0].tolist())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=empty_hub.environment(tmp_path / "home"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # timm takes images that are normalised already.
    with torch.inference_mode():
        expected = network(images * network.std + network.mean)[0]
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), expected, rtol=0, atol=1e-4)
