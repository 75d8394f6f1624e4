"""Config block `imbalance`."""

from pydantic import Field, model_validator

from synaug.config.base import Model


class Imbalance(Model):
    """Where the shot groups of long-tailed recognition are cut (real training images per class)."""

    many_above: int = Field(100, ge=1, description="A class with more images than this is `many`.")
    few_below: int = Field(20, ge=1, description="A class with fewer images than this is `few`; between: `medium`.")

    @model_validator(mode="after")
    def _ordered(self):
        if self.few_below > self.many_above:
            raise ValueError("few_below must not be larger than many_above")
        return self
