"""The classifier: its probabilities, the cosine head, and its file."""

import numpy as np
import pytest
import torch

from synaug.networks.classifier import Classifier, CosineHead, images_at_once, load_classifier, save_classifier
from synaug.runtime.errors import UserError

CLASSES = ["dark", "middle", "light"]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (20, 1, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def classifier(images) -> Classifier:
    torch.manual_seed(0)
    model = Classifier("resnet8", 4, CLASSES, 12, 1)
    model.set_normalisation(images)
    return model.eval()


def test_probabilities_do_not_depend_on_the_batch(classifier, images):
    probabilities = classifier.probabilities(images)
    assert probabilities.sum(1) == pytest.approx(np.ones(len(images)), abs=1e-5)
    assert np.allclose(
        probabilities, np.concatenate([classifier.probabilities(part) for part in images.split(7)]), atol=1e-5
    )


def test_a_cosine_head_by_hand():
    features, weights = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, -2.0]])
    head = CosineHead(2, 2)
    head.weight.data = weights
    assert head(features).tolist()[0] == pytest.approx([30 * 0.6, -30 * 0.8])


def test_a_saved_network_has_the_same_probabilities_and_classes(classifier, images, tmp_path):
    save_classifier(classifier, tmp_path / "model.safetensors")
    loaded = load_classifier(tmp_path / "model.safetensors")
    assert np.array_equal(loaded.probabilities(images), classifier.probabilities(images))
    assert loaded.config == classifier.config and loaded.config["classes"] == CLASSES


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_a_file_that_is_not_a_network_is_a_user_error(tmp_path, content):
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_classifier(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("shape", "count"),
    [((9, 1, 28, 28), 500), ((9, 3, 64, 64), 500), ((9, 3, 512, 512), 7), ((9, 3, 2048, 2048), 1), ((9, 1280), 500)],
)
def test_a_network_gets_fewer_large_images_at_once(shape, count):
    """Or a network that was trained with small batches would run out of memory when it predicts."""
    assert images_at_once(shape) == count
