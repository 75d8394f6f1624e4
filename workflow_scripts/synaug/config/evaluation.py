"""Config block `evaluation`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from synaug.config.base import Block, Name


class Evaluation(Block):
    """Which recipes are compared, and which optional measurements are made."""

    baseline: Name | Annotated[list[Name], Field(min_length=1)] | None = Field(
        None, description="Recipe, or list of recipes, that all others are compared with; null: the first recipe."
    )
    choose_by: Literal["balanced", "average", "worst_class", "worst_cell"] | None = Field(
        None,
        description="Choose one recipe by this accuracy on the validation images. A recipe with synthetic images is "
        "chosen only if it is better than the best one without by more than the noise of these images. A class or cell "
        "with fewer than 5 validation images does not count as the worst one; null: none is chosen.",
    )
    halving: bool = Field(
        True,
        description="With choose_by: successive halving. After each seed, the better half of the candidates is trained "
        "with the next seed, and with it the best one without synthetic images, the best one with them, and the "
        "baselines. false: all are trained with all seeds.",
    )
    domain_probe: bool = Field(
        False,
        description="Measure how well a linear classifier tells real from synthetic images by a network's features, on "
        "images that no network is trained on: test images, and extra synthetic images that are generated for this "
        "(500, or one per class in each group if these are more).",
    )
    shortcut_images: int | None = Field(
        None,
        ge=5,
        description="With groups only: measure whether networks use the group of an image, and whether it is "
        "synthetic, as a shortcut to its class. The value is the number of extra synthetic images per class and "
        "group that are generated for this; null: not measured.",
    )

    @model_validator(mode="after")
    def _halving_needs_a_choice(self):
        if not self.choose_by:
            self._refuse_without_effect(["halving"], "with choose_by: null")
        return self

    @property
    def baselines(self) -> list[str]:
        """`baseline` as a list."""
        return [self.baseline] if isinstance(self.baseline, str) else self.baseline or []
