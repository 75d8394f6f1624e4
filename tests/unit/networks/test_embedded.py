"""The embedded backbone: the weights of the package are the real ones, and a wrong or missing package is one line."""

from pathlib import PurePosixPath

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_sample_image

from synaug.networks import embedded
from synaug.networks.classifier import Classifier
from synaug.networks.embedded import embedded_weights
from synaug.runtime.errors import UserError

BELL_COTE = 442  # class of ImageNet


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def photograph() -> torch.Tensor:
    image = Image.fromarray(load_sample_image("china.jpg")).resize((224, 224), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]


def test_it_names_a_photograph_in_colour_and_sees_grey_images_as_rgb_with_equal_channels(cache):
    image = photograph()
    model = Classifier("timm/tf_efficientnet_lite0", None, ["a"], 224, 3).eval()
    model.load_pretrained("embedded")
    # The last layer of ImageNet, which our network does not have.
    last = load_file(embedded_weights())
    logits = model.features(image) @ last["classifier.weight"].T + last["classifier.bias"]
    assert logits.argmax() == BELL_COTE
    grey = image.float().mean(1, keepdim=True).byte()
    grey_model = Classifier("timm/tf_efficientnet_lite0", None, ["a"], 224, 1).eval()
    grey_model.load_pretrained("embedded")
    torch.testing.assert_close(grey_model.features(grey), model.features(grey.expand(-1, 3, -1, -1)), rtol=0, atol=1e-3)


def test_the_package_is_read_only_once(cache, monkeypatch):
    path = embedded_weights()
    assert path.is_relative_to(cache / "synaug")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    monkeypatch.setattr(embedded, "files", lambda _: [])
    assert embedded_weights() == path


class _Installed(PurePosixPath):
    """A file as `importlib.metadata.files` lists it."""

    def locate(self):
        return self


def test_a_changed_file_of_the_package_is_refused(cache, tmp_path, monkeypatch):
    changed = tmp_path / "efficientnet-lite0-57934424.pth"
    changed.write_bytes(b"other weights")
    monkeypatch.setattr(embedded, "files", lambda _: [_Installed(changed)])
    with pytest.raises(UserError, match=r"57934424\.pth: is not the expected file"):
        embedded_weights()
    assert not cache.exists()


def test_a_missing_package_is_named(cache, monkeypatch):
    monkeypatch.setattr(embedded, "_PACKAGE", "no-such-package-of-weights")
    model = Classifier("timm/tf_efficientnet_lite0", None, ["a"], 64, 3)
    with pytest.raises(UserError, match="pretrained: embedded needs the package no-such-package-of-weights"):
        model.load_pretrained("embedded")


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written .*set XDG_CACHE_HOME"):
        embedded_weights()
