"""ONNX gives the same probabilities as every kind of network: `write_onnx` compares them and raises if they differ."""

import pytest
import torch

from synaug.commands import export_model
from synaug.commands.export_model import write_onnx
from synaug.networks.classifier import Classifier
from synaug.runtime.errors import UserError


@pytest.mark.parametrize(
    ("backbone", "channels", "head", "size"),
    [
        ("resnet8", 3, "cosine", 28),
        ("resnet32", 1, "linear", 32),
        ("torchvision/resnet18", 3, "linear", 64),
        ("timm/test_efficientnet", 3, "linear", 64),
        ("timm/test_vit", 3, "linear", 64),
    ],
)
def test_onnx_gives_the_probabilities_of_the_network(tmp_path, backbone, channels, head, size):
    torch.manual_seed(0)
    network = Classifier(backbone, None, [f"class {i}" for i in range(7)], size, channels, head).eval()
    network.set_normalisation(torch.randint(0, 256, (10, channels, size, size), dtype=torch.uint8))
    write_onnx(network, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]  # no weights in a second file


def test_different_probabilities_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(export_model, "_TOLERANCE", -1)
    with pytest.raises(UserError, match="differ from the network's"):
        write_onnx(Classifier("resnet8", 8, ["a", "b"], 16, 1), tmp_path / "model.onnx")
