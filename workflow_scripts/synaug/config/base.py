"""What all config blocks share."""

from collections.abc import Iterable
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Block(BaseModel):
    """A block of keys. An unknown key is an error, and no value is converted to another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _parse_values_from_the_command_line(cls, values: Any) -> Any:
        """Parse texts as YAML, except where a key takes a text.

        Snakemake passes `--config training='{steps: 150}'` on with the text '150' instead of the number.
        """
        if not isinstance(values, dict):
            return values
        without_text = {key for key, field in cls.model_fields.items() if "str" not in str(field.annotation)}
        return {key: _parse(value) if key in without_text else value for key, value in values.items()}

    def _require_exactly_with(self, key: str, setting: str, chosen: bool) -> None:
        """Raise ValueError unless `key` has a value exactly if `setting` is `chosen`."""
        given = getattr(self, key) is not None
        if chosen and not given:
            raise ValueError(f"{key} is needed with {setting}; add it")
        if given and not chosen:
            raise ValueError(f"{key} is for {setting}; leave it out")

    def _refuse_without_effect(self, keys: Iterable[str], condition: str) -> None:
        """Raise ValueError if one of `keys` is not at its default. condition: why they have no effect."""
        for key in keys:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} has no effect {condition}; leave it out")


def _parse(value: Any) -> Any:
    if isinstance(value, list):
        return [_parse(item) for item in value]
    return yaml.safe_load(value) if isinstance(value, str) else value
