"""What all config blocks share."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def normal_path(path: str) -> str:
    """`path` as Snakemake and this workflow write it: without `./`, double slashes and a slash at the end.

    The id of a model of the hub has none of them, and the address of a storage is left as it is. `..` stays: behind a
    symbolic link, `link/..` is not the folder of the link.
    """
    return path if "://" in path or not path.strip() else str(PurePosixPath(path))


Seed = Annotated[int, Field(ge=0, lt=2**63)]
# Names become parts of file names, which may have 255 bytes: <name>.safetensors, .<name>.<computer>-<process>.tmp.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
NormalPath = Annotated[str, AfterValidator(normal_path)]

# The tables have 32-bit columns. Seeds have a limit of their own.
_LARGEST_NUMBER = 2**31 - 1
_LONGEST_NUMBER = 200
# 1e-3 is a number in YAML 1.2 and in every other language; PyYAML follows YAML 1.1, in which it is a text.
_SCIENTIFIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


class Block(BaseModel):
    """A block of keys. An unknown key is an error, and no value is converted to another type.

    Numbers are finite, whole numbers have at most 31 bits, texts are not empty, unless the default is, and paths do not
    begin with `~/`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _parse_values_from_the_command_line(cls, values: Any) -> Any:
        """Parse texts as YAML, except where a key takes a text.

        Snakemake passes `--config training='{steps: 150}'` on with the text '150' instead of the number.
        """
        if not isinstance(values, dict):
            return values
        types = {key: str(field.annotation) for key, field in cls.model_fields.items()}
        return {key: _parse_for(types.get(key, "str"), value) for key, value in values.items()}

    @model_validator(mode="after")
    def _values_can_be_used(self):
        for key, field in type(self).model_fields.items():
            value = getattr(self, key)
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, str) and not item.strip() and field.default != "":
                    raise ValueError(f"{key}: {item!r} must not be empty; give a value, or leave it out")
                if isinstance(item, int) and item > _LARGEST_NUMBER and "seed" not in key:
                    raise ValueError(f"{key}: {item} should be at most {_LARGEST_NUMBER}")
            for item in [value, *(value.values() if isinstance(value, dict) else ())]:
                if isinstance(item, str) and item.startswith("~/"):  # a path as for a shell
                    raise ValueError(f"{key}: {item!r}: ~ is not replaced in a config; write the whole path")
        return self

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


def _parse_for(types: str, value: Any) -> Any:
    """`value` parsed, unless it is a text and `types` (an annotation) has str: then only null, true and false are."""
    if "str" not in types:
        return parse_value(value)
    words = {"null": (None, "None"), "true": (True, "bool"), "false": (False, "bool")}
    if isinstance(value, str) and value in words and words[value][1] in types:
        return words[value][0]
    return value


def parse_value(value: Any) -> Any:
    """A text as the YAML that it is, and a list item by item; anything else, and a text that is no YAML, as it is.

    A long text is no number, and PyYAML takes minutes for thousands of brackets.
    """
    if isinstance(value, list):
        return [parse_value(item) for item in value]
    if not isinstance(value, str) or len(value) > _LONGEST_NUMBER:
        return value
    if _SCIENTIFIC.fullmatch(value.strip()):
        return float(value)
    try:
        return yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: 2024-13-45 has the form of a date
        return value
