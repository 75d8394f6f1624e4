"""Config block of step 3: what a synthetic image must pass."""

from pydantic import Field

from synaug.config.base import Model


class Screening(Model):
    """What a synthetic image must pass before it is trained on."""

    min_contrast: float = Field(
        2.0, ge=0, description="Smallest standard deviation of its pixels (0 to 255): less is a blank image."
    )
