"""Config block of the evaluation."""

from pydantic import Field

from synaug.config.base import Model, Name


class Evaluation(Model):
    """What the networks are compared with."""

    baseline: Name | None = Field(None, description="Recipe that all others are compared with; null: the first one.")
