"""Files of the screening models, and the name of their feature space."""

import json
import shutil

import pytest

from synaug.config import Screening, Stage1
from synaug.runtime.errors import UserError
from synaug.screening.checkpoints import (
    checkpoint_files,
    classifier_file,
    extractor_name,
    local_model_files,
    screening_network,
    screens_with_little_memory,
)


def test_files_of_a_checkpoint_and_what_it_may_lack(clip, tmp_path):
    assert {"config.json", "model.safetensors"} <= {file.rsplit("/")[-1] for file in checkpoint_files("x", clip, None)}
    assert checkpoint_files("x", "owner/name", "0123") == []
    with pytest.raises(UserError, match=r"screening\.safety\.revision \(a commit"):
        checkpoint_files("safety", "owner/name", None)
    with pytest.raises(UserError, match=r"no config\.json"):
        checkpoint_files("safety", str(tmp_path), None)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match=r"has no \*\.safetensors"):
        checkpoint_files("safety", str(tmp_path), None)
    with pytest.raises(UserError, match=r"screening\.classifier\.model: no file"):
        local_model_files(Screening.model_validate({"classifier": {"model": str(tmp_path)}}))


def test_the_name_of_the_extractor_depends_on_its_files(clip, tmp_path):
    block = {"text_image": {"model": "owner/name", "revision": "0123"}, "features": "text_image"}
    assert extractor_name(Screening.model_validate(block), None) == "text_image owner/name@0123"
    other = shutil.copytree(clip, tmp_path / "other")
    names = []
    for change in (None, {"added": 1}):
        if change:
            config = json.loads((other / "config.json").read_text())
            (other / "config.json").write_text(json.dumps(config | change))
        block["text_image"] = {"model": str(other)}
        names.append(extractor_name(Screening.model_validate(block), None))
    assert names[0] != names[1]


def test_a_classifier_is_given_as_a_file_or_its_folder(screening_classifier):
    path = str(screening_classifier)
    assert classifier_file(str(screening_classifier.parent)) == classifier_file(path) == path


@pytest.mark.parametrize("trained", [{}, {"freeze": "backbone"}, {"freeze": 2}, {"lora": {"rank": 4}}])
def test_a_pretrained_network_also_judges_the_synthetic_images(trained):
    """However much of it is trained: a small network that starts from nothing knows little of photographs."""
    backbone = {"backbone": "timm/x", "pretrained": "weights.safetensors"}
    assert screening_network(Stage1(**backbone, **trained)) == backbone | {"freeze": "backbone"}


@pytest.mark.parametrize("training", [{}, {"backbone": "timm/x"}, {"backbone": "resnet32", "flip": False}])
def test_without_pretrained_weights_the_screening_classifier_is_a_small_network(training):
    assert screening_network(Stage1(**training)) is None


@pytest.mark.parametrize(
    ("screening", "training", "image_size", "expected"),
    [
        ({"classifier": {}}, {}, 64, True),
        ({"classifier": {}}, {}, 128, False),
        ({"classifier": {"model": "other/model.safetensors"}}, {}, 28, False),
        ({"classifier": {}, "text_image": {"model": "owner/name", "revision": "0123"}}, {}, 28, False),
        ({"classifier": {}}, {"backbone": "timm/x", "pretrained": True, "freeze": "backbone"}, 28, False),
        ({"classifier": {}}, {"backbone": "timm/x", "pretrained": True}, 28, False),
    ],
)
def test_only_scoring_by_a_small_classifier_shares_a_gpu(screening, training, image_size, expected):
    screening, training = Screening.model_validate(screening), Stage1(**training)
    assert screens_with_little_memory(screening, training, image_size) is expected
