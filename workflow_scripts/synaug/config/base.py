"""What all config blocks share."""

from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Model(BaseModel):
    """A config block: unknown keys are errors, and values are never coerced from another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _read_text_below_a_key(cls, block: Any) -> Any:
        """`--config training='{steps: 150}'` gives the text '150': read it as YAML where no text is wanted."""
        if not isinstance(block, dict):
            return block
        plain = {name for name, field in cls.model_fields.items() if "str" not in str(field.annotation)}
        return {key: _from_yaml(value) if key in plain else value for key, value in block.items()}


def _from_yaml(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_yaml(one) for one in value]
    return yaml.safe_load(value) if isinstance(value, str) else value
