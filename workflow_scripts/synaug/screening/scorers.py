"""The networks that score images: each says how well, how surely or how badly, and some make features."""

import os

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError

from synaug.config import Screening
from synaug.images.codec import CHANNELS
from synaug.networks.classifier import load_classifier
from synaug.runtime.errors import UserError
from synaug.screening.checkpoints import extractor_name
from synaug.screening.scoring import Form, Scorers

BATCH = 64  # images that a large network sees at a time


class ClassifierScorer:
    """Probability that an image is of the class that was asked for, by a classifier of real images."""

    def __init__(self, path: str, size: int, channels: int, classes: list[str], device: str):
        """path: file of `save_classifier`. classes: names of the experiment's classes.

        Raises UserError if it is no such file, does not know a class, or sees images of another form.
        """
        self.model = load_classifier(path).to(device).eval()
        card = self.model.config
        for key, value in {"size": size, "channels": channels}.items():
            if card[key] != value:
                raise UserError(f"{path}: sees images with {key} {card[key]}, those here have {value}; train one here")
        if unknown := [name for name in classes if name not in card["classes"]]:
            raise UserError(f"{path}: does not know the class {unknown[0]!r}; give one trained on these classes")
        self.position = {name: i for i, name in enumerate(card["classes"])}
        self.device = device

    @torch.inference_mode()
    def read(self, pixels: np.ndarray, label_names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Features (float32, N x D) and the own class's probability (float32, N). pixels: uint8, N x S x S x C."""
        own = torch.tensor([self.position.get(name, 0) for name in label_names], device=self.device)
        features, confidence = [], []
        for start in range(0, len(pixels), 4 * BATCH):
            images = torch.from_numpy(pixels[start : start + 4 * BATCH]).permute(0, 3, 1, 2).to(self.device)
            found = self.model.features(images)
            shares = self.model.head(found).softmax(1)
            features.append(found.float().cpu().numpy())
            confidence.append(shares.gather(1, own[start : start + 4 * BATCH, None])[:, 0].float().cpu().numpy())
        return np.concatenate(features), np.concatenate(confidence)

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """Features of images, float32, N x D."""
        return self.read(pixels, [""] * len(pixels))[0]


class TextImageScorer:
    """Cosine similarity of image and prompt in the common space of a CLIP or SigLIP checkpoint."""

    def __init__(self, model: str, revision: str | None, device: str):
        """Raises UserError if the checkpoint cannot be loaded or does not embed both texts and images."""
        from transformers import AutoModel, AutoProcessor

        both = ("get_text_features", "get_image_features")
        self.model = load_checkpoint("text_image", AutoModel, model, revision, both).to(device).eval()
        self.processor = load_checkpoint("text_image", AutoProcessor, model, revision, ("image_processor", "tokenizer"))
        self.length = self.model.config.text_config.max_position_embeddings
        self.device = device
        self.texts: dict[str, torch.Tensor] = {}

    @torch.inference_mode()
    def embed_images(self, pixels: np.ndarray) -> torch.Tensor:
        """Embeddings of length 1, float32, N x D, on the device. pixels: uint8, N x S x S x C."""
        parts = [
            self.model.get_image_features(**preprocess(self.processor.image_processor, some, self.device))
            for some in in_batches(pixels)
        ]
        return F.normalize(torch.cat([part.pooler_output for part in parts]).float(), dim=1)

    @torch.inference_mode()
    def embed_texts(self, prompts: list[str]) -> torch.Tensor:
        """Embeddings of length 1, float32, N x D, on the device; every different prompt is read once."""
        new = sorted(set(prompts) - set(self.texts))
        for start in range(0, len(new), BATCH):
            some = new[start : start + BATCH]
            # SigLIP was trained on texts filled up to the full length; CLIP sees nothing beyond the end of the text.
            tokens = self.processor.tokenizer(
                some, padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
            )
            found = self.model.get_text_features(**tokens.to(self.device)).pooler_output.float()
            self.texts.update(zip(some, F.normalize(found, dim=1), strict=True))
        return torch.stack([self.texts[prompt] for prompt in prompts])

    def read(self, pixels: np.ndarray, prompts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Features (image embeddings, float32, N x D) and similarity to the prompt (float32, N, -1 to 1)."""
        images = self.embed_images(pixels)
        scores = (images * self.embed_texts(prompts)).sum(1)
        return images.cpu().numpy(), scores.cpu().numpy()

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """Features of images, float32, N x D."""
        return self.embed_images(pixels).cpu().numpy()


class SafetyScorer:
    """Probability of the labels that an image classifier has for what must not be trained on."""

    def __init__(self, model: str, revision: str | None, unsafe_labels: list[str], device: str):
        """Raises UserError if the checkpoint cannot be loaded or lacks one of the labels."""
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        self.model = load_checkpoint("safety", AutoModelForImageClassification, model, revision).to(device).eval()
        self.processor = load_checkpoint("safety", AutoImageProcessor, model, revision)
        labels = {name: int(i) for i, name in self.model.config.id2label.items()}
        if unknown := [name for name in unsafe_labels if name not in labels]:
            raise UserError(
                f"screening.safety.unsafe_labels: {model} has no label {unknown[0]!r}; it has {', '.join(labels)}"
            )
        # Labels that exclude each other share a probability of 1; others have one of 0 to 1 each.
        self.several = self.model.config.problem_type == "multi_label_classification"
        self.unsafe = [labels[name] for name in unsafe_labels]
        self.device = device

    @torch.inference_mode()
    def read(self, pixels: np.ndarray) -> np.ndarray:
        """Sum of the unsafe labels' probabilities, at most 1, float32, N. pixels: uint8, N x S x S x C."""
        parts = [self.model(**preprocess(self.processor, some, self.device)).logits for some in in_batches(pixels)]
        logits = torch.cat(parts).float()
        shares = logits.sigmoid() if self.several else logits.softmax(1)
        return shares[:, self.unsafe].sum(1).clamp(max=1).cpu().numpy()


def load_scorers(screening: Screening, form: Form, classes: list[str], classifier: str | None, device: str) -> Scorers:
    """The networks of the config on `device`. classes: names in their order. classifier: file of its weights.

    Raises UserError as they do.
    """
    scorers = Scorers(device, screening.feature_space)
    if screening.classifier:
        scorers.classifier = ClassifierScorer(classifier, form.image_size, CHANNELS[form.color], classes, device)
    if block := screening.text_image:
        scorers.text_image = TextImageScorer(block.model, block.revision, device)
    if block := screening.safety:
        scorers.safety = SafetyScorer(block.model, block.revision, block.unsafe_labels, device)
    if scorers.space:
        scorers.extractor = extractor_name(screening, classifier)
    return scorers


def in_batches(pixels: np.ndarray) -> list[np.ndarray]:
    """`pixels` in runs of BATCH images."""
    return [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]


def preprocess(processor, pixels: np.ndarray, device: str):
    """What the checkpoint's own image processor makes of `pixels` (uint8, N x S x S x C), on the device."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    return processor(images=list(images.to(device)), input_data_format="channels_first", return_tensors="pt").to(device)


def load_checkpoint(key: str, kind, model: str, revision: str | None, has: tuple[str, ...] = ()):
    """`kind.from_pretrained` of transformers: safetensors only, no code of the checkpoint's.

    Raises UserError if it cannot be loaded, lacks one of the attributes `has`, or lacks weights.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    local = os.path.isdir(model)
    network = "Processor" not in kind.__name__
    weights = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True} if network else {}
    try:
        found = kind.from_pretrained(
            model, revision=None if local else revision, local_files_only=local, trust_remote_code=False, **weights
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        text = " ".join(str(error).split())[:300]
        raise UserError(f"screening.{key}.model: {model} cannot be loaded as {kind.__name__}: {text}") from error
    found, info = found if network else (found, {"missing_keys": [], "mismatched_keys": []})
    if any(not hasattr(found, name) for name in has):
        raise UserError(
            f"screening.{key}.model: {model} is no CLIP or SigLIP checkpoint (it holds a {type(found).__name__}); give "
            "one with a text and an image part, and the processors of both"
        )
    # transformers fills what is missing with random numbers, and only warns.
    if info["missing_keys"] or info["mismatched_keys"]:
        name = sorted([*info["missing_keys"], *(str(one[0]) for one in info["mismatched_keys"])])[0]
        raise UserError(
            f"screening.{key}.model: {model} has no weights for {name}, which a {type(found).__name__} needs; give a "
            "complete checkpoint of that kind"
        )
    return found
