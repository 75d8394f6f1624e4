"""Config block `screening`."""

from typing import Any, Literal

from pydantic import Field, model_validator

from synaug.config.base import Block


class TextImageModel(Block):
    """A model that measures how well an image fits its prompt."""

    model: str = Field(
        description="A CLIP or SigLIP checkpoint of transformers: a local folder, or the id of a model on the hub."
    )
    revision: str | None = Field(
        None, description="Commit, tag or branch of a model on the hub, required there; not used for a local folder."
    )
    min_score: float | None = Field(
        None, ge=-1, le=1, description="Smallest cosine similarity of image and prompt; null: no limit."
    )


class ScreeningClassifier(Block):
    """A classifier of real images that measures how probable the intended class of an image is."""

    model: str | None = Field(
        None,
        description="Weights from another experiment: model.safetensors, or its folder; null: a classifier is trained "
        "on the real training images of this experiment: a small network, or with training.pretrained the last layer "
        "of that network, even if the recipes train all of it.",
    )
    steps: int = Field(
        1000, ge=1, description="Optimiser steps (128 images each) of the classifier that is trained here."
    )
    min_confidence: float | None = Field(
        None, ge=0, le=1, description="Smallest probability of the intended class; null: no limit."
    )
    must_agree: bool = Field(
        False,
        description="Reject an image if the class with the highest probability is not the intended class.",
    )
    disagreement_weight: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Weight in the loss of an image whose class with the highest probability is not the intended "
        "class; 1: the weight of all others.",
    )
    gate: bool = Field(
        False,
        description="Decide for each class how much of a fill is used, by how often the classifier recognises its "
        "synthetic images, in comparison with its validation images. Needs dataset.validation_split.",
    )
    pilot: int | None = Field(
        None,
        ge=1,
        description="gate: true only: images of each class (with groups: of each class in a group) and fill by which "
        "the gate decides before the others are planned; null: it decides by all images.",
    )

    @model_validator(mode="after")
    def _steps_are_for_the_classifier_that_is_trained_here(self):
        if self.model is not None:
            self._refuse_without_effect(["steps"], "with model")
        return self

    @model_validator(mode="after")
    def _pilot_is_for_the_gate(self):
        if not self.gate:
            self._refuse_without_effect(["pilot"], "with gate: false")
        return self

    @model_validator(mode="after")
    def _rejected_images_have_no_weight(self):
        if self.must_agree and self.disagreement_weight < 1:
            raise ValueError("must_agree rejects the images that disagreement_weight is for; set one of the two")
        return self

    @property
    def uses_prediction(self) -> bool:
        """Whether the predicted class decides over an image."""
        return self.must_agree or self.disagreement_weight < 1


class SimilarityThresholds(Block):
    """Limits beyond which two images count as the same. Reaching one of them is enough."""

    max_hash_distance: int | None = Field(
        4,
        ge=0,
        le=64,
        description="Largest number of differing bits between two 64-bit perceptual hashes; null: no limit.",
    )
    min_similarity: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Smallest cosine similarity of the features of two images; null: no limit.",
    )


class SafetyClassifier(Block):
    """A classifier of images that must not be trained on."""

    model: str = Field(
        description="An image classifier of transformers: a local folder, or the id of a model on the hub."
    )
    revision: str | None = Field(
        None, description="Commit, tag or branch of a model on the hub, required there; not used for a local folder."
    )
    unsafe_labels: list[str] = Field(
        min_length=1, description="Labels of the classifier that count as unsafe. The score is their total probability."
    )
    max_score: float | None = Field(0.5, ge=0, le=1, description="Largest score; null: no limit.")


class Screening(Block):
    """Checks that a synthetic image must pass before networks are trained on it.

    A check whose block is null is off. The others record their scores, with or without a limit.
    """

    min_contrast: float = Field(
        2.0,
        ge=0,
        description="Smallest standard deviation of the pixel values (0 to 255) of an image; an image below it is "
        "blank.",
    )
    text_image: TextImageModel | None = Field(None, description="Check that an image fits its prompt; null: off.")
    classifier: ScreeningClassifier | None = Field(
        None, description="Check that a classifier of real images recognises the intended class; null: off."
    )
    duplicates: SimilarityThresholds | None = Field(
        None, description="Check that an image does not repeat an earlier synthetic image of its class; null: off."
    )
    leakage: SimilarityThresholds | None = Field(
        None, description="Check that an image does not repeat a real training or test image; null: off."
    )
    safety: SafetyClassifier | None = Field(
        None, description="Check that an image shows nothing that must not be trained on; null: off."
    )
    features: Literal["classifier", "text_image"] = Field(
        "classifier",
        description="Network whose features are used for similarities and for quality.parquet.",
    )

    @model_validator(mode="after")
    def _features_have_a_network(self):
        if self.features == "text_image" and self.text_image is None:
            raise ValueError("features: text_image needs the block text_image; add it")
        for check in ("duplicates", "leakage"):
            thresholds = getattr(self, check)
            if thresholds and thresholds.min_similarity is not None and self.feature_space is None:
                raise ValueError(f"{check}.min_similarity needs the block {self.features} for its features; add it")
        return self

    @property
    def feature_space(self) -> str | None:
        """The network that makes features, `classifier` or `text_image`; None if it is off."""
        return self.features if getattr(self, self.features) else None

    def scoring(self) -> dict[str, Any]:
        """The settings that the scores of a single image depend on, as plain values.

        They are those of the networks, without the settings of the verdict, of the gate, of the neighbours and
        `classifier.steps`. `Screening` accepts them again.
        """
        other = {"min_score", "min_confidence", "max_score", "steps", "must_agree", "disagreement_weight"}
        other |= {"gate", "pilot"}
        networks = dict.fromkeys(("text_image", "classifier", "safety"), other)
        return self.model_dump(exclude={"min_contrast": True, "duplicates": True, "leakage": True, **networks})
