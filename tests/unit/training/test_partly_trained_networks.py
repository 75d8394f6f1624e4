"""Networks of which only a part is trained: frozen backbones and their features, frozen stages, rates, and LoRA."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from synaug.config import Mixup, Stage1, Stage2
from synaug.evaluation.predictions import predict, predict_from_features
from synaug.images import store
from synaug.images.store import iterate_pixels
from synaug.manifests import read_manifest, write_manifest
from synaug.networks.classifier import Classifier, load_classifier, save_classifier
from synaug.runtime.errors import UserError
from synaug.screening.checkpoints import screening_network
from synaug.screening.classifier import train_screening_classifier
from synaug.training.data import BackboneFeatures, TrainingSet, compute_feature_set, open_training_set
from synaug.training.features import extract_features, read_features
from synaug.training.stage1 import train_stage1
from synaug.training.stage2 import finetune_stage2
from training.extract_features import main as extract_features_job
from training_sets import CLASSES, brightness_classes

SIZE = 32
EMBEDDED = {"backbone": "timm/tf_efficientnet_lite0", "pretrained": "embedded"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, str]:
    """Files of random weights, by name of the network of timm."""
    files = {}
    for name in ("test_resnet", "test_vit"):
        torch.manual_seed(0)
        state = timm.create_model(name).state_dict()
        files[name] = str(tmp_path_factory.mktemp("weights") / f"{name}.safetensors")
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, files[name])
    return files


def stage1(weights, network: str = "test_resnet", **changes) -> Stage1:
    settings = {"steps": 4, "batch_size": 16, "backbone": f"timm/{network}", "pretrained": weights[network]}
    return Stage1.model_validate(settings | changes)


def first_body(settings: Stage1) -> dict[str, torch.Tensor]:
    model = Classifier(settings.backbone, None, CLASSES, SIZE, 1)
    model.load_pretrained(settings.pretrained)
    return model.body.state_dict()


def changed(settings: Stage1, data: TrainingSet | None = None) -> set[str]:
    """Names of the tensors of the body, with statistics of batch normalisation, that stage 1 changes."""
    model, _ = train_stage1(data or brightness_classes(side=SIZE), CLASSES, settings, 0)
    before = first_body(settings)
    after = model.body.state_dict()
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, pngs) -> tuple[str, pd.DataFrame]:
    """The manifest `balanced` of 24 images in files, of which 12 are synthetic, and its rows."""
    folder = tmp_path_factory.mktemp("images")
    count = 24
    for number in range(count):
        (folder / f"{number}.png").write_bytes(pngs[number])
    rows = pd.DataFrame(
        {
            "image_id": [f"{(7 * number) % count:02d}" for number in range(count)],
            "label": [number % 3 for number in range(count)],
            "label_name": [CLASSES[number % 3] for number in range(count)],
            "source": ["real", "synthetic"] * (count // 2),
            "weight": 1.0,
            "sha256": "",
            "split": "test",
            "path": [str(folder / f"{number}.png") for number in range(count)],
            "row": pd.array([None] * count, "Int64"),
            "column": None,
        }
    )
    write_manifest("balanced", rows.drop(columns="split"), folder / "balanced.parquet")
    return str(folder / "balanced.parquet"), rows


@pytest.fixture(scope="module")
def features(weights, experiment, tmp_path_factory) -> str:
    """The manifest `backbone_features` of these images."""
    path = tmp_path_factory.mktemp("features") / "features.parquet"
    table = extract_features(experiment[1], "timm/test_resnet", weights["test_resnet"], SIZE, "grey", "cpu", 1)
    write_manifest("backbone_features", table, path)
    return str(path)


def test_features_do_not_depend_on_threads_and_come_in_the_order_that_is_wanted(weights, experiment, features):
    rows = experiment[1]
    two = extract_features(rows, "timm/test_resnet", weights["test_resnet"], SIZE, "grey", "cpu", 2)
    assert np.array_equal(read_features(features, two["image_id"]), np.stack(two["features"]))
    wanted = pd.Series(["05", "02", "05"])
    by_id = dict(zip(two["image_id"], two["features"], strict=True))
    assert np.array_equal(read_features(features, wanted), np.stack([by_id[image_id] for image_id in wanted]))
    with pytest.raises(UserError, match="lacks image none"):
        read_features(features, pd.Series(["05", "none"]))


def test_the_job_that_extracts_features_reads_the_decoded_images_of_the_experiment(
    weights, experiment, features, tmp_path, monkeypatch
):
    """In the second job no image is decoded, and the file is the same, bit by bit, as of all features at once."""
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    rows = experiment[1]
    rows = rows.assign(sha256=[hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in rows["path"]])
    write_manifest("balanced", rows.drop(columns="split"), tmp_path / "balanced.parquet")
    write_manifest("real", rows.drop(columns=["source", "weight"]).assign(usable=True), tmp_path / "real.parquet")
    decoded, decode = [], store.decode_image
    monkeypatch.setattr(store, "decode_image", lambda *arguments: decoded.append(1) or decode(*arguments))
    settings = {
        "backbone": "timm/test_resnet", "pretrained": weights["test_resnet"], "image_size": SIZE, "color": "grey",
        "held_out": ["test"], "data": "balanced",
    }  # fmt: skip
    paths = [str(tmp_path / f"{name}.parquet") for name in ("balanced", "real")]
    monkeypatch.setattr(extract_features_job.__module__ + "._ROWS", 5)
    for number in range(2):
        out = tmp_path / "backbone_features" / f"{number}.parquet"
        extract_features_job(*paths, settings, 1, str(out))
        assert len(decoded) == len(rows)
        assert out.read_bytes() == Path(features).read_bytes()


@pytest.mark.parametrize("mixup", [None, Mixup(alpha=0.2)])
@pytest.mark.parametrize("method", ["retrain", "dfr"])
def test_both_stages_train_the_last_layer_on_features_and_save_the_whole_network(
    weights, experiment, features, tmp_path, mixup, method
):
    table, rows = experiment
    settings = stage1(weights, freeze="backbone", mixup=mixup)
    balanced = read_manifest("balanced", table)
    data = open_training_set(balanced, BackboneFeatures(features, SIZE, "grey"), "cpu")
    first, _ = train_stage1(data, CLASSES, settings, 0)
    real = open_training_set(balanced[balanced["source"] == "real"], BackboneFeatures(features, SIZE, "grey"), "cpu")
    second_settings = Stage2.model_validate(
        {"method": method} | ({"steps": 3} if method == "retrain" else {"draws": 1})
    )
    second, _ = finetune_stage2(first, real, second_settings, settings, 0, np.ones(3))
    assert not torch.equal(first.head.weight, second.head.weight)
    save_classifier(second, tmp_path / "model.safetensors")
    saved = load_classifier(tmp_path / "model.safetensors")
    for name, tensor in first_body(settings).items():
        assert torch.equal(saved.body.state_dict()[name], tensor), name
    from_images = predict(saved, rows, iterate_pixels(rows, SIZE, "grey"))
    from_features = predict_from_features(second, rows, read_features(features, rows["image_id"]))
    assert from_images["image_id"].equals(from_features["image_id"])
    probabilities = [np.stack(predictions["probabilities"]) for predictions in (from_images, from_features)]
    np.testing.assert_allclose(*probabilities, atol=1e-5)


@pytest.mark.parametrize("trained", [{"freeze": "backbone"}, {"freeze": "none"}, {"freeze": 1}])
def test_the_screening_classifier_is_the_last_layer_of_the_pretrained_network(weights, experiment, trained):
    balanced = read_manifest("balanced", experiment[0])
    settings = stage1(weights, **trained)
    data = compute_feature_set(balanced, settings.backbone, settings.pretrained, SIZE, "grey", "cpu", threads=2)
    model = train_screening_classifier(data, CLASSES, 4, 0, screening_network(settings))
    for name, tensor in first_body(settings).items():
        assert torch.equal(model.body.state_dict()[name], tensor), name
    assert model.config["size"] == SIZE


def test_a_frozen_backbone_has_no_augmentation_by_default():
    settings = Stage1.model_validate(EMBEDDED | {"freeze": "backbone"})
    assert (settings.shift, settings.flip) == (0, False)
    assert Stage1.model_validate(settings.model_dump()) == settings
    assert (Stage1().shift, Stage1().flip) == (2, True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": "backbone", "shift": 2}, "shift has no effect with freeze: backbone"),
        ({"freeze": "backbone", "flip": True}, "flip has no effect"),
        ({"freeze": "backbone", "crop_area": 0.5}, "crop_area has no effect"),
        ({"freeze": "backbone", "cutmix": {"alpha": 1.0}}, "cutmix has no effect"),
        ({"freeze": "backbone", "randaugment": {}}, "randaugment has no effect"),
        ({"freeze": "backbone", "backbone_rate": 0.1}, "backbone_rate has no effect"),
        ({"freeze": "backbone", "pretrained": False}, "needs pretrained weights"),
        ({"freeze": 2, "backbone": "torchvision/resnet18", "pretrained": True}, "needs a network of timm"),
        ({"backbone": "timm/resnet18"}, "embedded is for backbone: timm/tf_efficientnet_lite0"),
        ({"lora": {}, "freeze": "backbone"}, "lora needs"),
        ({"freeze": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_contradict_a_frozen_part_are_errors(settings, message):
    with pytest.raises(ValidationError, match=message):
        Stage1.model_validate(EMBEDDED | settings)


def test_frozen_stages_keep_their_weights_and_statistics_and_the_later_ones_learn(weights):
    names = changed(stage1(weights, freeze=2))
    assert not any(name.startswith(("conv1", "bn1", "layer1")) for name in names)
    assert {"layer2.0.conv1.weight", "layer4.0.bn1.running_mean"} <= names
    with pytest.raises(UserError, match="freeze: 9: timm/test_resnet has only 5 stages"):
        train_stage1(brightness_classes(side=SIZE), CLASSES, stage1(weights, freeze=9), 0)


def test_backbone_rate_scales_the_steps_of_the_backbone_only(weights):
    steps = {}
    for rate in (1.0, 0.1):
        settings = stage1(weights, steps=1, backbone_rate=rate, weight_decay=0.0, learning_rate=0.01)
        model, _ = train_stage1(brightness_classes(side=SIZE), CLASSES, settings, 0)
        name = "layer4.0.conv1.weight"
        steps[rate] = (model.body.state_dict()[name] - first_body(settings)[name], model.head.weight)
    torch.testing.assert_close(steps[0.1][0], 0.1 * steps[1.0][0], rtol=1e-3, atol=1e-7)
    assert torch.equal(steps[0.1][1], steps[1.0][1])


def test_lora_changes_the_attention_alone_and_is_merged_into_an_ordinary_network(weights, tmp_path):
    settings = stage1(weights, "test_vit", lora={"rank": 2}, learning_rate=0.5)
    data = brightness_classes(side=SIZE)
    names = changed(settings, data)
    projections = {name for name in first_body(settings) if name.endswith(("qkv.weight", "proj.weight"))}
    assert names == {name for name in projections if ".attn." in name}
    model, _ = train_stage1(data, CLASSES, settings, 0)
    save_classifier(model, tmp_path / "model.safetensors")
    loaded = load_classifier(tmp_path / "model.safetensors").eval()
    torch.testing.assert_close(loaded(data.images), model(data.images))


def test_lora_on_a_convolutional_network_is_a_user_error(weights):
    with pytest.raises(UserError, match="lora: timm/test_resnet has no attention layers"):
        train_stage1(brightness_classes(side=SIZE), CLASSES, stage1(weights, lora={}), 0)


def test_the_stem_of_a_transformer_is_frozen_with_its_positions(weights):
    names = changed(stage1(weights, "test_vit", freeze=1))
    assert names and not [
        name for name in names if name.startswith(("pos_embed", "cls_token", "reg_token", "patch_embed"))
    ]
