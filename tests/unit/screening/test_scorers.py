"""Networks that score images: they compute what the model itself computes, and refuse what does not fit."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPProcessor, SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

from synaug.generator.architecture import build_tokenizer
from synaug.runtime.errors import UserError
from synaug.screening.scorers import ClassifierScorer, SafetyScorer, TextImageScorer, preprocess


@pytest.mark.parametrize("channels", [1, 3])
def test_text_image_score_is_that_of_the_model_itself(clip, prompts, pixels, channels):
    scorer = TextImageScorer(str(clip), None, "cpu")
    features, scores = scorer.score(pixels(channels=channels), prompts)
    model, processor = CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)
    images = [np.broadcast_to(image, (12, 12, 3)).copy() for image in pixels(channels=channels)]
    inputs = processor(images=images, text=prompts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**inputs)
    np.testing.assert_allclose(features, expected.image_embeds, atol=1e-5)
    np.testing.assert_allclose(scores, (expected.image_embeds * expected.text_embeds).sum(1), atol=1e-5)
    assert set(scorer.text_embeddings) == set(prompts)  # each unique prompt once


def test_siglip_is_loaded_by_the_same_code(prompts, pixels, tmp_path):
    torch.manual_seed(0)
    tokenizer = build_tokenizer(prompts)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = small | {"vocab_size": len(tokenizer), "max_position_embeddings": 24, "projection_size": 16}
    text |= {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    config = SiglipConfig(text_config=text, vision_config=small | {"image_size": 16, "patch_size": 8})
    SiglipModel(config).save_pretrained(tmp_path)
    SiglipProcessor(SiglipImageProcessor(size={"height": 16, "width": 16}), tokenizer).save_pretrained(tmp_path)
    features, scores = TextImageScorer(str(tmp_path), None, "cpu").score(pixels(), prompts)
    assert features.shape == (3, 16)
    assert (np.abs(scores) <= 1).all()


def test_safety_score_is_the_sum_of_the_unsafe_labels(safety, pixels, tmp_path):
    total = SafetyScorer(str(safety), None, ["nsfw", "gore"], "cpu").score(pixels())
    each = [SafetyScorer(str(safety), None, [name], "cpu").score(pixels()) for name in ("nsfw", "gore", "normal")]
    np.testing.assert_allclose(total, each[0] + each[1], rtol=1e-5)
    np.testing.assert_allclose(sum(each), 1, rtol=1e-5)
    multi_label = shutil.copytree(safety, tmp_path / "multi_label")
    config = json.loads((multi_label / "config.json").read_text())
    (multi_label / "config.json").write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
    scorer = SafetyScorer(str(multi_label), None, ["nsfw"], "cpu")
    with torch.inference_mode():
        logits = scorer.model(**preprocess(scorer.processor, pixels(), "cpu")).logits
    np.testing.assert_allclose(scorer.score(pixels()), logits.sigmoid()[:, 1], rtol=1e-5)
    with pytest.raises(UserError, match="no label 'violence'; it has normal, nsfw, gore"):
        SafetyScorer(str(safety), None, ["violence"], "cpu")


def test_the_error_for_an_unusable_checkpoint_is_one_line(safety, clip, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="is not a CLIP or SigLIP checkpoint"):
        TextImageScorer(str(safety), None, "cpu")
    with pytest.raises(UserError, match=r"screening\.safety\.model: .*") as error:
        SafetyScorer(str(clip), None, ["LABEL_0"], "cpu")
    assert "\n" not in str(error.value)
    broken = shutil.copytree(clip, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be loaded as AutoModel"):
        TextImageScorer(str(broken), None, "cpu")
    with pytest.raises(UserError, match=r"screening\.text_image\.model: nobody/no-model cannot be loaded"):
        TextImageScorer("nobody/no-model", "0123", "cpu")


def test_half_a_checkpoint_is_not_filled_with_random_weights(clip, tmp_path):
    from safetensors.torch import load_file, save_file

    half = shutil.copytree(clip, tmp_path / "half")
    weights = load_file(half / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, half / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"no weights for visual_projection\.weight"):
        TextImageScorer(str(half), None, "cpu")


def test_a_given_classifier_must_fit_the_experiment(screening_classifier, pixels):
    path = str(screening_classifier)
    with pytest.raises(UserError, match="does not know the class 'grey'"):
        ClassifierScorer(path, 12, 1, ["dark", "grey"], "cpu")
    with pytest.raises(UserError, match="size 12, those here have 28"):
        ClassifierScorer(path, 28, 1, ["dark"], "cpu")
    # The classes have the order of the classifier, not that of the experiment.
    _, dark, _, _ = ClassifierScorer(path, 12, 1, ["bright", "dark"], "cpu").score(pixels(), ["dark"] * 3)
    _, bright, _, _ = ClassifierScorer(path, 12, 1, ["dark", "bright"], "cpu").score(pixels(), ["bright"] * 3)
    np.testing.assert_allclose(dark + bright, 1, rtol=1e-5)


def test_an_exported_network_of_timm_is_no_screening_classifier(tmp_path):
    """Its weights have the names of timm. The user named the file, so the advice is not only to delete it."""
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UserError, match=r"is not a classifier of synaug .* otherwise name a model\.safetensors of results/"
    ):
        ClassifierScorer(str(tmp_path / "model.safetensors"), 12, 1, ["dark"], "cpu")
