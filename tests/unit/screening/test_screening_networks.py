"""Screening by networks: tiny random checkpoints, saved and loaded as any other; and the classifier trained here."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from synaug.config import Screening
from synaug.generator.architecture import build_tokenizer
from synaug.images.codec import encode_image
from synaug.manifests import read_manifest, write_manifest
from synaug.networks.classifier import save_classifier
from synaug.runtime.errors import UserError
from synaug.screening.checkpoints import checkpoint_files, classifier_file, extractor_name, screening_files
from synaug.screening.fit import fit_screener
from synaug.screening.neighbours import nearest_earlier_similar, nearest_similar, normalised
from synaug.screening.quality import read_features
from synaug.screening.scorers import ClassifierScorer, SafetyScorer, TextImageScorer, load_scorers, preprocess
from synaug.screening.scoring import Form, score_synthetic
from synaug.training.data import TrainingSet

PROMPTS = ["a photo of a bag", "a photo of a boot", "a photo of a bag"]
FORM = Form(12, "grey", "train", "test")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip") / "clip"
    tokenizer = build_tokenizer(PROMPTS)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = small | {"vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    vision = small | {"image_size": 16, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    CLIPProcessor(CLIPImageProcessor(**size), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def safety(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("safety") / "vit"
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    labels = {0: "normal", 1: "nsfw", 2: "gore"}
    names = {"id2label": labels, "label2id": {name: i for i, name in labels.items()}}
    ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, **small, **names)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classes_that_differ() -> TrainingSet:
    """60 dark images of class 0, 4 bright ones of class 1."""
    rng = np.random.default_rng(0)
    images = np.concatenate([rng.integers(0, 100, (60, 1, 12, 12)), rng.integers(150, 256, (4, 1, 12, 12))])
    labels = torch.tensor([0] * 60 + [1] * 4)
    return TrainingSet(torch.from_numpy(images.astype(np.uint8)), labels, labels == 9, torch.ones(64))


@pytest.fixture(scope="module")
def screener(classes_that_differ, tmp_path_factory):
    path = tmp_path_factory.mktemp("screener") / "model.safetensors"
    save_classifier(fit_screener(classes_that_differ, ["dark", "bright"], steps=20, seed=0), path)
    return path


def pixels(count: int = 3, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 12, 12, channels), np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_text_image_score_is_that_of_the_model_itself(clip, channels):
    scorer = TextImageScorer(str(clip), None, "cpu")
    features, scores = scorer.read(pixels(channels=channels), PROMPTS)
    model, processor = CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)
    images = [np.broadcast_to(one, (12, 12, 3)).copy() for one in pixels(channels=channels)]
    inputs = processor(images=images, text=PROMPTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**inputs)
    np.testing.assert_allclose(features, expected.image_embeds, atol=1e-5)
    np.testing.assert_allclose(scores, (expected.image_embeds * expected.text_embeds).sum(1), atol=1e-5)
    assert set(scorer.texts) == set(PROMPTS)  # each different prompt once


def test_siglip_is_loaded_by_the_same_code(tmp_path):
    torch.manual_seed(0)
    tokenizer = build_tokenizer(PROMPTS)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = small | {"vocab_size": len(tokenizer), "max_position_embeddings": 24, "projection_size": 16}
    text |= {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    config = SiglipConfig(text_config=text, vision_config=small | {"image_size": 16, "patch_size": 8})
    SiglipModel(config).save_pretrained(tmp_path)
    SiglipProcessor(SiglipImageProcessor(size={"height": 16, "width": 16}), tokenizer).save_pretrained(tmp_path)
    features, scores = TextImageScorer(str(tmp_path), None, "cpu").read(pixels(), PROMPTS)
    assert features.shape == (3, 16)
    assert (np.abs(scores) <= 1).all()


def test_safety_score_is_the_sum_of_the_unsafe_labels(safety, tmp_path):
    both = SafetyScorer(str(safety), None, ["nsfw", "gore"], "cpu").read(pixels())
    each = [SafetyScorer(str(safety), None, [name], "cpu").read(pixels()) for name in ("nsfw", "gore", "normal")]
    np.testing.assert_allclose(both, each[0] + each[1], rtol=1e-5)
    np.testing.assert_allclose(sum(each), 1, rtol=1e-5)
    several = shutil.copytree(safety, tmp_path / "several")
    config = json.loads((several / "config.json").read_text())
    (several / "config.json").write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
    shares = SafetyScorer(str(several), None, ["nsfw"], "cpu")
    with torch.inference_mode():
        logits = shares.model(**preprocess(shares.processor, pixels(), "cpu")).logits
    np.testing.assert_allclose(shares.read(pixels()), logits.sigmoid()[:, 1], rtol=1e-5)
    with pytest.raises(UserError, match="no label 'violence'; it has normal, nsfw, gore"):
        SafetyScorer(str(safety), None, ["violence"], "cpu")


def test_what_is_no_such_model_is_said_in_one_line(safety, clip, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="is no CLIP or SigLIP checkpoint"):
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


def test_files_of_a_checkpoint_are_inputs_and_its_faults_are_found_at_once(clip, tmp_path):
    assert {"config.json", "model.safetensors"} <= {file.rsplit("/")[-1] for file in checkpoint_files("x", clip, None)}
    assert checkpoint_files("x", "owner/name", "0123") == []
    with pytest.raises(UserError, match=r"screening\.safety\.revision \(a commit"):
        checkpoint_files("safety", "owner/name", None)
    with pytest.raises(UserError, match=r"no config\.json"):
        checkpoint_files("safety", str(tmp_path), None)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match="holds no weights as"):
        checkpoint_files("safety", str(tmp_path), None)
    with pytest.raises(UserError, match=r"screening\.classifier\.model: no file"):
        screening_files(Screening.model_validate({"classifier": {"model": str(tmp_path)}}))


def test_screener_knows_the_rare_class_and_is_the_same_again(classes_that_differ, screener):
    again = fit_screener(classes_that_differ, ["dark", "bright"], steps=20, seed=0)
    scorer = ClassifierScorer(str(screener), 12, 1, ["dark", "bright"], "cpu")
    images = classes_that_differ.images.permute(0, 2, 3, 1).numpy()
    features, confidence = scorer.read(images, ["dark"] * 60 + ["bright"] * 4)
    assert confidence[60:].min() > 0.5  # 4 of 64 images
    np.testing.assert_array_equal(again.eval().probabilities(classes_that_differ.images)[:60, 0], confidence[:60])
    with torch.inference_mode():
        np.testing.assert_allclose(features, scorer.model.features(classes_that_differ.images), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(scorer.features(images), features)
    with pytest.raises(UserError, match="class 'none' has no usable training image"):
        fit_screener(classes_that_differ, ["dark", "bright", "none"], steps=1, seed=0)
    fit_screener(classes_that_differ, ["dark", "bright"], steps=1, seed=0)


def test_a_given_classifier_must_fit_the_experiment(screener, tmp_path):
    assert classifier_file(str(screener.parent)) == classifier_file(str(screener)) == str(screener)
    with pytest.raises(UserError, match="does not know the class 'grey'"):
        ClassifierScorer(str(screener), 12, 1, ["dark", "grey"], "cpu")
    with pytest.raises(UserError, match="size 12, those here have 28"):
        ClassifierScorer(str(screener), 28, 1, ["dark"], "cpu")
    # Its own order of the classes counts, not the experiment's.
    first = ClassifierScorer(str(screener), 12, 1, ["bright", "dark"], "cpu").read(pixels(), ["dark"] * 3)[1]
    second = ClassifierScorer(str(screener), 12, 1, ["dark", "bright"], "cpu").read(pixels(), ["bright"] * 3)[1]
    np.testing.assert_allclose(first + second, 1, rtol=1e-5)


@pytest.fixture
def shard(tmp_path) -> tuple[pd.DataFrame, dict[str, str], pd.DataFrame]:
    """Plan, shards and real images: 3 synthetic (the last one damaged), 2 to train on, 1 to test on."""
    encoded = [encode_image(one) for one in pixels(2)] + [b"broken"]
    plan = pd.DataFrame({"image_id": ["s0", "s1", "s2"], "label": 0, "label_name": "dark", "index": range(3)})
    plan = plan.assign(prompt=PROMPTS, stored_size=12, shard="x")
    plain = pd.DataFrame({"image": [{"bytes": one, "path": None} for one in encoded], "image_id": plan["image_id"]})
    path = tmp_path / "x.parquet"
    plain.assign(sha256="h").to_parquet(path)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for file, one in zip(paths, pixels(3), strict=True):
        file.write_bytes(encode_image(one))
    real = pd.DataFrame({"image_id": ["r0", "r1", "r2"], "path": [str(one) for one in paths], "row": pd.NA})
    real = real.assign(split=["train", "test", "train"], label=[0, 0, 1], label_name=["dark", "dark", "bright"])
    return plan, {"x": str(path)}, real.assign(usable=True)


@pytest.mark.parametrize("space", ["classifier", "text_image"])
def test_all_scores_are_columns_and_features_are_kept(shard, clip, safety, screener, space, tmp_path):
    blocks = {"text_image": {"model": str(clip)}, "safety": {"model": str(safety), "unsafe_labels": ["nsfw"]}}
    blocks |= {"classifier": {"model": str(screener)}, "duplicates": {}, "leakage": {}, "features": space}
    screening = Screening.model_validate(blocks)
    scorers = load_scorers(screening, FORM, ["dark", "bright"], str(screener), "cpu")
    scores, features = score_synthetic(*shard, screening, FORM, scorers)
    write_manifest("scores", scores, tmp_path / "scores.parquet")
    table = read_manifest("scores", tmp_path / "scores.parquet").set_index("image_id")
    for name in ("text_image_score", "classifier_confidence", "safety_score", "nearest_train_similarity"):
        assert table.loc[["s0", "s1"], name].notna().all(), name
        assert pd.isna(table.loc["s2", name]), name
    assert table.loc["s0", ["nearest_train", "hash_nearest_train"]].tolist() == ["r0", "r0"]  # the same pixels
    assert table.loc["s1", ["nearest_test", "hash_nearest_test"]].tolist() == ["r1", "r1"]
    assert table.loc["s0", "nearest_train_similarity"] > 0.9999
    assert table.loc["s1", "nearest_earlier"] == "s0"
    assert pd.isna(table.loc["s0", "nearest_earlier"])
    write_manifest("features", features, tmp_path / "features.parquet")
    place, matrix, extractor = read_features(tmp_path / "features.parquet")
    assert extractor == extractor_name(screening, str(screener))
    assert extractor.startswith(f"{space} sha256:")
    assert set(place.index) == {("synthetic", "s0"), ("synthetic", "s1"), ("real", "r0"), ("real", "r2")}
    np.testing.assert_allclose(matrix[place["synthetic", "s0"]], matrix[place["real", "r0"]], atol=1e-5)


def test_name_of_the_features_follows_the_weights(clip, tmp_path):
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


@pytest.mark.parametrize("block", [7, 1 << 24])
def test_most_similar_features_equal_a_loop(block, monkeypatch):
    monkeypatch.setattr("synaug.screening.neighbours._BLOCK", block)
    features, others = np.random.default_rng(0).normal(size=(2, 20, 5))
    where, similarity = nearest_similar(normalised(features, "cpu"), normalised(others, "cpu"))
    earlier, before = nearest_earlier_similar(normalised(features, "cpu"))

    def cosines(one, many):
        return many @ one / np.linalg.norm(one) / np.linalg.norm(many, axis=1)

    for i, one in enumerate(features):
        assert where[i] == cosines(one, others).argmax()
        np.testing.assert_allclose(similarity[i], cosines(one, others).max(), rtol=1e-5)
        if i:
            assert earlier[i] == cosines(one, features[:i]).argmax()
            np.testing.assert_allclose(before[i], cosines(one, features[:i]).max(), rtol=1e-5)
    assert earlier[0] == -1 and np.isnan(before[0])
    assert nearest_similar(normalised(features, "cpu"), normalised(others[:0], "cpu"))[0].tolist() == [-1] * 20
    assert len(nearest_earlier_similar(normalised(features[:0], "cpu"))[0]) == 0
