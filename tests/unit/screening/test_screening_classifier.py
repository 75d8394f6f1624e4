"""The screening classifier: the same seed gives the same network, and it knows rare classes too."""

import numpy as np
import pytest
import torch

from synaug.config import Stage1
from synaug.runtime.errors import UserError
from synaug.screening.checkpoints import screening_augmentation
from synaug.screening.classifier import train_screening_classifier
from synaug.screening.scorers import ClassifierScorer
from synaug.training.data import TrainingSet


def test_it_knows_the_rare_class_and_is_the_same_again(dark_and_bright, screening_classifier):
    again = train_screening_classifier(dark_and_bright, ["dark", "bright"], steps=20, seed=0)
    scorer = ClassifierScorer(str(screening_classifier), 12, 1, ["dark", "bright"], "cpu")
    images = dark_and_bright.images.permute(0, 2, 3, 1).numpy()
    features, confidence, predicted, entropy = scorer.score(images, ["dark"] * 60 + ["bright"] * 4)
    assert confidence[60:].min() > 0.5  # 4 of 64 images
    assert set(predicted[60:]) == {"bright"}
    # Of two classes, the entropy is a function of the confidence.
    both = np.stack([confidence, 1 - confidence]).astype(np.float64).clip(1e-12)
    np.testing.assert_allclose(entropy, -(both * np.log(both)).sum(0), atol=1e-4)
    # The predicted class does not depend on the intended one.
    np.testing.assert_array_equal(scorer.score(images, ["dark"] * 64)[2], predicted)
    np.testing.assert_array_equal(again.eval().probabilities(dark_and_bright.images)[:60, 0], confidence[:60])
    with torch.inference_mode():
        np.testing.assert_allclose(features, scorer.model.features(dark_and_bright.images), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="class 'none' has no usable training image"):
        train_screening_classifier(dark_and_bright, ["dark", "bright", "none"], steps=1, seed=0)


def test_images_that_must_not_be_mirrored_are_not():
    """As for letters: one class has its bright half on the left, the other on the right."""
    left = np.zeros((32, 1, 12, 12), np.uint8)
    left[..., :6] = 200
    images = torch.from_numpy(np.concatenate([left, left[..., ::-1]]))
    labels = torch.tensor([0] * 32 + [1] * 32)
    data = TrainingSet(images, labels, labels == 9, torch.ones(64))

    augmentation = {"flip": False, "shift": 0}
    model = train_screening_classifier(data, ["left", "right"], 30, 0, augmentation=augmentation)
    assert (model.probabilities(images).argmax(1) == labels.numpy()).all()


def test_the_settings_of_the_augmentation_are_those_that_differ_from_the_defaults():
    assert screening_augmentation(Stage1(steps=5)) == screening_augmentation(Stage1(flip=True, shift=2)) == {}
    assert screening_augmentation(Stage1(flip=False)) == {"flip": False}
    frozen = Stage1(backbone="timm/x", pretrained=True, freeze="backbone")
    assert screening_augmentation(frozen) == {}  # features have none
    assert screening_augmentation(Stage1(backbone="timm/x", pretrained=True, flip=False)) == {}


def test_a_network_that_gives_nan_predicts_no_class(dark_and_bright, screening_classifier):
    scorer = ClassifierScorer(str(screening_classifier), 12, 1, ["dark", "bright"], "cpu")
    torch.nn.init.constant_(scorer.model.head.weight, torch.nan)
    images = dark_and_bright.images[:2].permute(0, 2, 3, 1).numpy()
    _, confidence, predicted, entropy = scorer.score(images, ["dark"] * 2)
    assert np.isnan(confidence).all() and predicted.tolist() == [None, None] and np.isnan(entropy).all()
