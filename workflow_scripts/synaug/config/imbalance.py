"""Config block `imbalance`."""

from pydantic import Field, model_validator

from synaug.config.base import Block


class Imbalance(Block):
    """Limits of the shot groups: a class is many-shot, medium-shot or few-shot by its real training images."""

    many_above: int = Field(100, ge=1, description="A class with more real training images than this is `many`.")
    few_below: int = Field(
        20, ge=1, description="A class with fewer real training images than this is `few`; the rest are `medium`."
    )

    @model_validator(mode="after")
    def _limits_are_ordered(self):
        if self.few_below > self.many_above:
            raise ValueError(
                f"few_below ({self.few_below}) must not be larger than many_above ({self.many_above}); lower it"
            )
        return self
