"""Every kind of network says the same as ONNX: `write_onnx` compares them, and raises if not."""

import pytest
import torch

from synaug.networks.classifier import Classifier
from synaug.tools.package import write_onnx


@pytest.mark.parametrize(
    ("backbone", "channels", "head", "size"),
    [
        ("resnet8", 3, "cosine", 28),
        ("resnet32", 1, "linear", 32),
        ("torchvision/resnet18", 3, "linear", 64),
        ("timm/mobilenetv3_small_050", 3, "linear", 64),
        ("timm/vit_tiny_patch16_224", 3, "linear", 64),
    ],
)
def test_onnx_says_what_the_network_says(tmp_path, backbone, channels, head, size):
    torch.manual_seed(0)
    network = Classifier(backbone, None, [f"class {i}" for i in range(7)], size, channels, head).eval()
    network.set_normalisation(torch.randint(0, 256, (10, channels, size, size), dtype=torch.uint8))
    write_onnx(network, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]  # no weights in a second file


def test_a_network_that_onnx_gets_wrong_is_refused(tmp_path, monkeypatch):
    from synaug.runtime.errors import UserError
    from synaug.tools import package

    monkeypatch.setattr(package, "_TOLERANCE", -1)
    with pytest.raises(UserError, match="differs from the network"):
        write_onnx(Classifier("resnet8", 8, ["a", "b"], 16, 1), tmp_path / "model.onnx")
