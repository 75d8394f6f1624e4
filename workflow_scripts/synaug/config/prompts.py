"""Config block `prompts`: the texts that the model is given."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from synaug.config.base import Model


class Prompts(Model):
    """What the model is asked for."""

    templates: list[str] = Field(
        ["a photo of a {label}"], min_length=1, description="Image i of a class uses template i modulo their number."
    )
    names: str | dict[str, str] = Field(
        {},
        description="Class name, or value of a group -> the words for it in prompts; or a table (Parquet or CSV) with "
        "the columns label and name.",
    )
    modifiers: str | list[str] | dict[str, list[str]] | None = Field(
        None,
        description="What {modifier} stands for: a list for all classes, a list per class, `general` (20 that suit "
        "most things), or a table (Parquet or CSV) with the columns label and modifier.",
    )
    file: str | None = Field(
        None, description="Prompts written elsewhere: a table (Parquet or CSV) with the columns label and prompt."
    )
    negative: str = Field("", description="What the images must not show; empty: nothing.")

    @field_validator("templates")
    @classmethod
    def _templates_hold_label(cls, templates: list[str]) -> list[str]:
        for template in templates:
            if "{label}" not in template:
                raise ValueError(f"{template!r} must contain {{label}}")
        return templates

    @field_validator("names", "modifiers", mode="before")
    @classmethod
    def _class_names_are_text(cls, block: Any) -> Any:
        for key in block if isinstance(block, dict) else ():
            if not isinstance(key, str):
                raise ValueError(f"a class name is text: write '{key}', with the quotes")
        return block

    @field_validator("modifiers", mode="before")
    @classmethod
    def _modifiers_are_texts(cls, modifiers: Any) -> Any:
        match modifiers:
            case None:
                return None
            case str():
                lists = [[modifiers]]
            case dict():
                lists = list(modifiers.values())
            case _:
                lists = [modifiers]
        if any(not isinstance(one, list) or any(not isinstance(text, str) for text in one) for one in lists):
            raise ValueError("should be general, a list of texts, a block of class: list of texts, or a table's path")
        if not lists or any(not one for one in lists):
            raise ValueError("a list of modifiers must not be empty")
        if any(not text.strip() for one in lists for text in one):
            raise ValueError("a modifier must not be empty; for images without one, add a template without {modifier}")
        return modifiers

    @model_validator(mode="after")
    def _modifiers_where_they_are_used(self):
        used = any("{modifier}" in template for template in self.templates)
        if used != (self.modifiers is not None):
            raise ValueError("modifiers is needed with {modifier} in a template, and only with it")
        return self
