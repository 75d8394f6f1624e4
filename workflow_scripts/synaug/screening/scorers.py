"""The networks that score images: how well an image fits its class or prompt, and whether it is safe."""

import os

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError

from synaug.config import Screening
from synaug.images.codec import CHANNELS
from synaug.networks.arithmetic import gpu_arithmetic
from synaug.networks.classifier import images_at_once, load_classifier
from synaug.runtime.errors import UserError
from synaug.screening.checkpoints import extractor_name
from synaug.screening.scoring import ImageForm, Scorers

BATCH = 64  # images that a large network processes at a time
CLASSIFIER_BATCH = 256  # images of up to 64 pixels; as many pixels of larger ones


class ClassifierScorer:
    """What a classifier of real images says of an image: its class, and how certain that is."""

    def __init__(self, path: str, size: int, channels: int, classes: list[str], device: str):
        """path: written by `save_classifier`. classes: class names of the experiment.

        Raises UserError if the file is not a classifier, lacks a class, or takes images of another size or colour.
        """
        try:
            self.model = load_classifier(path).to(device).eval()
        except UserError as error:  # the user may have named this file, for example an exported network
            advice = "delete it and run again if this workflow made it; otherwise name a model.safetensors of results/"
            raise UserError(error.problem, advice=advice) from None
        config = self.model.config
        for key, value in {"size": size, "channels": channels}.items():
            if config[key] != value:
                problem = f"{path}: takes images with {key} {config[key]}, those here have {value}"
                raise UserError(problem, advice="train one here")
        if unknown := [name for name in classes if name not in config["classes"]]:
            problem = f"{path}: does not know the class {unknown[0]!r}"
            raise UserError(problem, advice="give one trained on these classes")
        self.classes = np.array(config["classes"], object)
        self.label_of_class = {name: label for label, name in enumerate(config["classes"])}
        self.device = device
        self.batch = images_at_once((1, 3, size, size), CLASSIFIER_BATCH)

    @torch.inference_mode()
    @gpu_arithmetic()
    def score(
        self, pixels: np.ndarray, label_names: list[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Features (float32, N x D), the probability of each image's class (float32, N), predicted class, and entropy.

        pixels: uint8, N x S x S x C. The predicted class is a name (object, N) of the classes of the classifier, which
        may be more than those of the experiment; None if the probabilities are NaN. The entropy (float32, N) is that of
        the probabilities of all classes, in nats.
        """
        labels = torch.tensor([self.label_of_class[name] for name in label_names], device=self.device)
        features, confidences, predicted, entropies = [], [], [], []
        for images, batch_labels in zip(self._batches(pixels), labels.split(self.batch), strict=True):
            batch_features = self.model.features(images)
            probabilities = self.model.head(batch_features).softmax(1)
            features.append(batch_features.float().cpu().numpy())
            confidences.append(probabilities.gather(1, batch_labels[:, None])[:, 0].float().cpu().numpy())
            predicted.append(self.classes[probabilities.argmax(1).cpu().numpy()])
            entropies.append(torch.special.entr(probabilities.float()).sum(1).cpu().numpy())
        confidence = np.concatenate(confidences)
        prediction = np.where(np.isnan(confidence), None, np.concatenate(predicted))
        return np.concatenate(features), confidence, prediction, np.concatenate(entropies)

    def _batches(self, pixels: np.ndarray) -> list[torch.Tensor]:
        """Batches of images on the device, uint8, n x C x S x S."""
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        return [batch.to(self.device) for batch in images.split(self.batch)]


class TextImageScorer:
    """Cosine similarity of an image and its prompt in the embedding space of a CLIP or SigLIP checkpoint."""

    def __init__(self, model: str, revision: str | None, device: str):
        """Raises UserError if the checkpoint cannot be loaded or does not embed both texts and images."""
        from transformers import AutoModel, AutoProcessor

        embeds_both = ("get_text_features", "get_image_features")
        self.model = load_checkpoint("text_image", AutoModel, model, revision, embeds_both).to(device).eval()
        self.processor = load_checkpoint("text_image", AutoProcessor, model, revision, ("image_processor", "tokenizer"))
        self.text_length = self.model.config.text_config.max_position_embeddings
        self.device = device
        self.text_embeddings: dict[str, torch.Tensor] = {}  # of the prompts so far

    @torch.inference_mode()
    def embed_images(self, pixels: np.ndarray) -> torch.Tensor:
        """Embeddings of length 1, float32, N x D, on the device. pixels: uint8, N x S x S x C."""
        outputs = [
            self.model.get_image_features(**preprocess(self.processor.image_processor, batch, self.device))
            for batch in in_batches(pixels)
        ]
        return F.normalize(torch.cat([output.pooler_output for output in outputs]).float(), dim=1)

    @torch.inference_mode()
    def embed_texts(self, prompts: list[str]) -> torch.Tensor:
        """Embeddings of length 1, float32, N x D, on the device. Each unique prompt is embedded once."""
        new_prompts = sorted(set(prompts) - set(self.text_embeddings))
        for start in range(0, len(new_prompts), BATCH):
            batch = new_prompts[start : start + BATCH]
            # SigLIP was trained on texts padded to the full length; CLIP ignores everything after the end of the text.
            tokens = self.processor.tokenizer(
                batch, padding="max_length", truncation=True, max_length=self.text_length, return_tensors="pt"
            )
            embeddings = self.model.get_text_features(**tokens.to(self.device)).pooler_output.float()
            self.text_embeddings.update(zip(batch, F.normalize(embeddings, dim=1), strict=True))
        return torch.stack([self.text_embeddings[prompt] for prompt in prompts])

    def score(self, pixels: np.ndarray, prompts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Features (image embeddings, float32, N x D) and similarity to the prompt (float32, N, -1 to 1)."""
        embeddings = self.embed_images(pixels)
        similarities = (embeddings * self.embed_texts(prompts)).sum(1)
        return embeddings.cpu().numpy(), similarities.cpu().numpy()

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """Features of images, float32, N x D."""
        return self.embed_images(pixels).cpu().numpy()


class SafetyScorer:
    """Probability of the labels that an image classifier has for unsafe content."""

    def __init__(self, model: str, revision: str | None, unsafe_labels: list[str], device: str):
        """Raises UserError if the checkpoint cannot be loaded or lacks one of the labels."""
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        self.model = load_checkpoint("safety", AutoModelForImageClassification, model, revision).to(device).eval()
        self.processor = load_checkpoint("safety", AutoImageProcessor, model, revision)
        labels = {name: int(i) for i, name in self.model.config.id2label.items()}
        if unknown := [name for name in unsafe_labels if name not in labels]:
            raise UserError(
                f"screening.safety.unsafe_labels: {model} has no label {unknown[0]!r}",
                advice=f"it has {', '.join(labels)}",
            )
        # The probabilities of exclusive labels sum to 1; of other labels each is 0 to 1.
        self.multi_label = self.model.config.problem_type == "multi_label_classification"
        self.unsafe = [labels[name] for name in unsafe_labels]
        self.device = device

    @torch.inference_mode()
    def score(self, pixels: np.ndarray) -> np.ndarray:
        """Sum of the probabilities of the unsafe labels, at most 1, float32, N. pixels: uint8, N x S x S x C."""
        outputs = [self.model(**preprocess(self.processor, batch, self.device)) for batch in in_batches(pixels)]
        logits = torch.cat([output.logits for output in outputs]).float()
        probabilities = logits.sigmoid() if self.multi_label else logits.softmax(1)
        return probabilities[:, self.unsafe].sum(1).clamp(max=1).cpu().numpy()


def load_scorers(
    screening: Screening, form: ImageForm, classes: list[str], classifier: str | None, device: str
) -> Scorers:
    """The networks of `screening` on `device`. classes: class names. classifier: file of the screening classifier.

    Raises UserError if a network cannot be loaded or does not fit the data.
    """
    scorers = Scorers(screening.feature_space)
    if screening.classifier:
        scorers.classifier = ClassifierScorer(classifier, form.image_size, CHANNELS[form.color], classes, device)
    if block := screening.text_image:
        scorers.text_image = TextImageScorer(block.model, block.revision, device)
    if block := screening.safety:
        scorers.safety = SafetyScorer(block.model, block.revision, block.unsafe_labels, device)
    if scorers.feature_space:
        scorers.extractor = extractor_name(screening, classifier)
    return scorers


def in_batches(pixels: np.ndarray) -> list[np.ndarray]:
    """`pixels` in batches of up to BATCH images."""
    return [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]


def preprocess(processor, pixels: np.ndarray, device: str):
    """`pixels` (uint8, N x S x S x C) as the image processor of the checkpoint prepares them, on the device."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    return processor(images=list(images.to(device)), input_data_format="channels_first", return_tensors="pt").to(device)


def load_checkpoint(
    block: str, auto_class, model: str, revision: str | None, required_attributes: tuple[str, ...] = ()
):
    """`auto_class.from_pretrained` of transformers, with safetensors only and without code of the checkpoint.

    block: name of the config block, for messages. Raises UserError if the checkpoint cannot be loaded, lacks one of the
    `required_attributes`, or lacks weights.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    local = os.path.isdir(model)
    is_network = "Processor" not in auto_class.__name__
    options = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True} if is_network else {}
    try:
        loaded = auto_class.from_pretrained(
            model, revision=None if local else revision, local_files_only=local, trust_remote_code=False, **options
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        text = f"{auto_class.__name__}: {' '.join(str(error).split())[:300]}"
        raise UserError(
            f"screening.{block}.model: {model} cannot be loaded as {text}",
            advice=f"{'copy it again' if local else 'check the connection'}, or give a model of this kind",
        ) from error
    loaded, info = loaded if is_network else (loaded, {"missing_keys": [], "mismatched_keys": []})
    if any(not hasattr(loaded, name) for name in required_attributes):
        raise UserError(
            f"screening.{block}.model: {model} is not a CLIP or SigLIP checkpoint (it is a {type(loaded).__name__})",
            advice="give one with a text and an image part, and the processors of both",
        )
    # transformers fills missing weights with random numbers, and only warns.
    if info["missing_keys"] or info["mismatched_keys"]:
        missing = sorted([*info["missing_keys"], *(str(mismatch[0]) for mismatch in info["mismatched_keys"])])[0]
        raise UserError(
            f"screening.{block}.model: {model} has no weights for {missing}, which a {type(loaded).__name__} needs",
            advice="give a complete checkpoint",
        )
    return loaded
