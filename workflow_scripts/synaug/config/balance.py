"""Config block `balance`: how many synthetic images each class gets."""

from typing import Literal

from pydantic import Field, model_validator

from synaug.config.base import Block


class Balance(Block):
    """How many synthetic images each class gets. With groups, this holds for each class in each group."""

    strategy: Literal["largest", "fixed", "largest_of_class", "largest_of_group"] = Field(
        "largest",
        description="The size that classes are filled to. largest: that of the largest class, as in the paper. "
        "fixed: `target` images. largest_of_class: that of the largest group of the same class. "
        "largest_of_group: that of the largest class of the same group.",
    )
    target: int | None = Field(
        None, ge=1, description="strategy: fixed only: images per class, real and synthetic together."
    )
    amount: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="Synthetic images per missing image: 1 fills a class, 0.5 fills half of the gap.",
    )
    max_synthetic_per_real: float | None = Field(
        None, gt=0, description="Largest number of synthetic images per real image of the class; null: no limit."
    )
    oversample: float = Field(
        1.0, ge=1, le=10, description="Images generated per image wanted; the best images of each class are kept."
    )
    keep: Literal["score", "coverage", "uncertain"] = Field(
        "score",
        description="Which accepted images of a class are kept, with oversample above 1. score: those with the highest "
        "text-image score, or else classifier confidence. coverage: those that cover the accepted images of the class "
        "best in the feature space of the screening (greedy facility location). uncertain: those about which the "
        "screening classifier is least certain (highest entropy).",
    )
    shortfall: Literal["error", "record"] = Field(
        "record",
        description="What happens if too few images of a class pass the screening. error: the run ends; "
        "record: the missing number is recorded.",
    )

    @model_validator(mode="after")
    def _target_belongs_to_fixed(self):
        self._require_exactly_with("target", "strategy: fixed", self.strategy == "fixed")
        return self
