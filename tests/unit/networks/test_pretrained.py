"""Backbones of torchvision and timm: any size of the data, with random weights or weights from a file."""

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torchvision.models import get_model, get_model_weights

from synaug.config import Stage1
from synaug.networks.classifier import Classifier, load_classifier, save_classifier
from synaug.networks.pretrained import build_body, check_backbone, load_pretrained_body
from synaug.runtime.errors import UserError

CLASSES = ["a", "b", "c"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("backbone", ["torchvision/mobilenet_v3_small", "timm/test_resnet", "timm/test_vit"])
def test_a_library_network_has_the_classes_of_the_data_and_can_be_saved(backbone, channels, tmp_path):
    model = Classifier(backbone, None, CLASSES, 64, channels).eval()
    images = torch.randint(0, 256, (2, channels, 64, 64), dtype=torch.uint8)
    assert model(images).shape == (2, 3)
    save_classifier(model, tmp_path / "model.safetensors")
    assert torch.equal(load_classifier(tmp_path / "model.safetensors").eval()(images), model(images))


def test_torchvision_weights_are_loaded_from_a_file_without_the_last_layer(tmp_path):
    from torchvision.models import get_model

    source = get_model("mobilenet_v3_small", weights=None)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    model = Classifier("torchvision/mobilenet_v3_small", None, CLASSES, 64, 3)
    model.load_pretrained(str(tmp_path / "weights.safetensors"))
    loaded = {name.removeprefix("body.1."): tensor for name, tensor in model.state_dict().items() if "body.1." in name}
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in loaded.items())
    assert torch.allclose(model.mean.flatten() / 255, torch.tensor([0.485, 0.456, 0.406]))  # of ImageNet


def test_timm_weights_are_loaded_from_a_file(tmp_path):
    import timm

    source = timm.create_model("test_resnet", num_classes=10)
    save_file({name: tensor.contiguous() for name, tensor in source.state_dict().items()}, tmp_path / "w.safetensors")
    model = Classifier("timm/test_resnet", None, CLASSES, 64, 3)
    model.load_pretrained(str(tmp_path / "w.safetensors"))
    assert torch.equal(model.body.state_dict()["conv1.0.weight"], source.state_dict()["conv1.0.weight"])


@pytest.mark.parametrize(
    ("backbone", "similar"), [("torchvision/resnet8", "resnet18"), ("timm/resnet8", "timm/resnet")]
)
def test_the_error_for_an_unknown_name_lists_similar_names(backbone, similar):
    with pytest.raises(UserError, match=similar):
        check_backbone(backbone)


def test_weights_that_do_not_fit_or_do_not_exist_are_one_line(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    model = Classifier("torchvision/mobilenet_v3_small", None, CLASSES, 64, 3)
    for weights, message in ((tmp_path / "other.safetensors", "do not fit"), (tmp_path / "none", "does not exist")):
        with pytest.raises(UserError, match=message) as error:
            model.load_pretrained(str(weights))
        assert "\n" not in str(error.value)


def test_weights_of_the_library_that_do_not_fit_the_size_are_no_failed_download(monkeypatch):
    weights = get_model_weights("vit_b_32").DEFAULT
    of_224_pixels = get_model("vit_b_32", weights=None).state_dict()
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *arguments, **options: of_224_pixels)
    body, _ = build_body("torchvision/vit_b_32", 3, 64)
    message = r"vit_b_32 do not fit images of 64 pixels \(size mismatch for .*; change dataset.image_size"
    with pytest.raises(UserError, match=message):
        load_pretrained_body(body, "torchvision/vit_b_32", 3, 64, True)


def test_a_network_that_cannot_take_images_of_a_size_is_a_user_error():
    with pytest.raises(UserError, match="cannot take images of 8 pixels"):
        Classifier("torchvision/alexnet", None, CLASSES, 8, 3)


@pytest.mark.parametrize(
    "settings",
    [
        {"backbone": "resnet9"},
        {"backbone": "torchvision/resnet18", "width": 16},
        {"backbone": "resnet32", "pretrained": True},
    ],
)
def test_settings_without_an_effect_are_errors(settings):
    with pytest.raises(ValidationError):
        Stage1.model_validate(settings)


def test_pixels_of_googlenet_and_inception_are_from_minus_one_to_one(tmp_path):
    """torchvision changes them in the network, if it has the weights of ImageNet."""
    from torchvision.models import get_model

    torch.manual_seed(0)
    options = {"weights": None, "aux_logits": False, "init_weights": False}
    save_file(get_model("googlenet", **options).state_dict(), tmp_path / "weights.safetensors")
    model = Classifier("torchvision/googlenet", None, CLASSES, 64, 3)
    model.load_pretrained(str(tmp_path / "weights.safetensors"))
    theirs = get_model("googlenet", transform_input=True, **options)
    theirs.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    theirs.fc = torch.nn.Identity()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = theirs.eval()((images / 255 - mean) / std)
        assert torch.allclose(model.eval().features(images), expected, atol=1e-4)
