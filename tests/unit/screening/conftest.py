"""Tiny checkpoints with random weights, saved and loaded as any other, and a classifier that is trained here."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from synaug.networks.classifier import save_classifier
from synaug.screening.classifier import train_screening_classifier
from synaug.training.data import TrainingSet
from tiny_clip import save_clip


@pytest.fixture(scope="session")
def prompts() -> list[str]:
    return ["a photo of a bag", "a photo of a boot", "a photo of a bag"]


@pytest.fixture(scope="session")
def pixels() -> Callable[..., np.ndarray]:
    """A function: number of images and channels to random images, uint8, N x 12 x 12 x C."""

    def pixels(count: int = 3, channels: int = 1) -> np.ndarray:
        return np.random.default_rng(1).integers(0, 256, (count, 12, 12, channels), np.uint8)

    return pixels


@pytest.fixture(scope="session")
def clip(tmp_path_factory, prompts) -> Path:
    """A small CLIP checkpoint with random weights."""
    return save_clip(tmp_path_factory.mktemp("clip") / "clip", prompts)


@pytest.fixture(scope="session")
def safety(tmp_path_factory) -> Path:
    """A small image classifier with the labels normal, nsfw and gore, with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("safety") / "vit"
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    labels = {0: "normal", 1: "nsfw", 2: "gore"}
    names = {"id2label": labels, "label2id": {name: i for i, name in labels.items()}}
    ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, **small, **names)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def dark_and_bright() -> TrainingSet:
    """60 dark images of class 0, 4 bright ones of class 1."""
    rng = np.random.default_rng(0)
    images = np.concatenate([rng.integers(0, 100, (60, 1, 12, 12)), rng.integers(150, 256, (4, 1, 12, 12))])
    labels = torch.tensor([0] * 60 + [1] * 4)
    return TrainingSet(torch.from_numpy(images.astype(np.uint8)), labels, labels == 9, torch.ones(64))


@pytest.fixture(scope="session")
def screening_classifier(dark_and_bright, tmp_path_factory) -> Path:
    """File of a classifier that was trained on `dark_and_bright`."""
    path = tmp_path_factory.mktemp("screening_classifier") / "model.safetensors"
    save_classifier(train_screening_classifier(dark_and_bright, ["dark", "bright"], steps=20, seed=0), path)
    return path
