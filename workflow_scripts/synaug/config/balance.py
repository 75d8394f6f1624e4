"""Config block `balance`: how many synthetic images each class gets."""

from typing import Literal

from pydantic import Field, model_validator

from synaug.config.base import Model


class Balance(Model):
    """How many synthetic images every class gets."""

    strategy: Literal["largest", "fixed", "largest_of_class", "largest_of_group"] = Field(
        "largest",
        description="largest: fill every class, or class in a group, to the largest (the paper); fixed: to `target`; "
        "largest_of_class, largest_of_group: groups of a class, or classes of a group, to the largest of them.",
    )
    target: int | None = Field(
        None, ge=1, description="fixed only: images per class, or class in a group, real and synthetic together."
    )
    amount: float = Field(
        1.0, gt=0, description="Synthetic images per image that a class lacks: 1 fills it, 0.5 goes half of the way."
    )
    max_synthetic_per_real: float | None = Field(
        None, gt=0, description="At most this many synthetic images per real one of the class; null: no cap."
    )
    oversample: float = Field(
        1.0, ge=1, le=10, description="Images made per image wanted; the best of each class are kept."
    )
    shortfall: Literal["error", "record"] = Field(
        "record", description="A class that screening leaves with fewer images than wanted: end the run, or record it."
    )

    @model_validator(mode="after")
    def _target_when_fixed(self):
        if (self.strategy == "fixed") != (self.target is not None):
            raise ValueError("target is needed with strategy: fixed, and only with it")
        return self
