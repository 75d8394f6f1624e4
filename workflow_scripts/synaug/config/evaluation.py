"""Config block of the evaluation."""

from typing import Annotated

from pydantic import Field

from synaug.config.base import Model, Name


class Evaluation(Model):
    """What the networks are compared with, and what else is measured of them."""

    baseline: Name | Annotated[list[Name], Field(min_length=1)] | None = Field(
        None, description="Recipe, or list of recipes, that all others are compared with; null: the first one."
    )
    domain_probe: bool = Field(
        False, description="Measure how well real and synthetic images can be told apart by a network's features."
    )

    shortcut_images: int | None = Field(
        None,
        ge=5,
        description="With groups: measure whether networks use the group and the kind of an image as a shortcut, by so "
        "many synthetic images of every class in every group, made for it; null: no.",
    )

    @property
    def baselines(self) -> list[str]:
        """`baseline` as a list."""
        return [self.baseline] if isinstance(self.baseline, str) else self.baseline or []
