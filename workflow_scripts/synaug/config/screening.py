"""Config blocks of step 3: what a synthetic image must pass, and what is measured of those that did."""

from typing import Any, Literal

from pydantic import Field, model_validator

from synaug.config.base import Model


class TextImage(Model):
    """How well an image goes with its prompt, by a model that embeds both."""

    model: str = Field(description="A CLIP or SigLIP checkpoint of transformers: a local folder, or a hub id.")
    revision: str | None = Field(None, description="Hub only: commit, tag or branch of the model.")
    min_score: float | None = Field(
        None, ge=-1, le=1, description="Smallest cosine similarity of image and prompt; null: only recorded."
    )


class Screener(Model):
    """Whether a classifier of real images sees the class that was asked for."""

    model: str | None = Field(
        None,
        description="Weights that another experiment trained: model.safetensors, or its folder; null: trained here.",
    )
    steps: int = Field(1000, ge=1, description="Optimiser steps of the one trained here, 128 images each.")
    min_confidence: float | None = Field(
        None, ge=0, le=1, description="Smallest probability of the image's own class; null: only recorded."
    )


class Nearness(Model):
    """From when on two images count as the same one."""

    max_hash_distance: int | None = Field(
        4, ge=0, le=64, description="Differing bits of two 64-bit perceptual hashes, at most; null: not judged."
    )
    min_similarity: float | None = Field(
        None, ge=-1, le=1, description="Cosine similarity of two images' features, at least; null: not judged."
    )


class Safety(Model):
    """Whether a classifier of harmful images sees any harm."""

    model: str = Field(description="An image classifier of transformers: a local folder, or a hub id.")
    revision: str | None = Field(None, description="Hub only: commit, tag or branch of the model.")
    unsafe_labels: list[str] = Field(min_length=1, description="Its labels whose probabilities add up to the score.")
    max_score: float | None = Field(0.5, ge=0, le=1, description="Highest score, 0 to 1; null: only recorded.")


class Screening(Model):
    """What a synthetic image must pass before it is trained on. A block that is null is not computed."""

    min_contrast: float = Field(
        2.0, ge=0, description="Smallest standard deviation of its pixels (0 to 255): less is a blank image."
    )
    text_image: TextImage | None = Field(None, description="How well an image goes with its prompt.")
    classifier: Screener | None = Field(None, description="Whether it is taken for its class.")
    duplicates: Nearness | None = Field(None, description="Synthetic images of a class that repeat an earlier one.")
    leakage: Nearness | None = Field(None, description="Synthetic images that repeat a real training or test image.")
    safety: Safety | None = Field(None, description="Whether it shows what must not be trained on.")
    features: Literal["classifier", "text_image"] = Field(
        "classifier", description="Which of the two networks makes the features that similarity and quality are of."
    )

    @model_validator(mode="after")
    def _features_where_they_are_used(self):
        if self.features == "text_image" and self.text_image is None:
            raise ValueError("features: text_image needs the block text_image")
        for name in ("duplicates", "leakage"):
            block = getattr(self, name)
            if block and block.min_similarity is not None and self.feature_space is None:
                raise ValueError(f"{name}.min_similarity needs the block {self.features}, which makes the features")
        return self

    @property
    def feature_space(self) -> str | None:
        """Which network makes features: `classifier` or `text_image`; None if it is off."""
        return self.features if getattr(self, self.features) else None

    def scoring(self) -> dict[str, Any]:
        """What decides scores, as plain values: all but the thresholds and `classifier.steps`.

        A `Screening` can be made of it again, which then has the default thresholds.
        """
        other = {"min_score", "min_confidence", "max_hash_distance", "min_similarity", "max_score", "steps"}
        blocks = ("text_image", "classifier", "duplicates", "leakage", "safety")
        return self.model_dump(exclude={"min_contrast": True, **dict.fromkeys(blocks, other)})
