"""Config block `prompts`: the texts that the model is given."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from synaug.config.base import Block


class Prompts(Block):
    """The texts that the model makes images from."""

    templates: list[str] = Field(
        ["a photo of a {label}"],
        min_length=1,
        description="Texts with placeholders: {label}, {modifier} and, with groups, {group} and {<group column>}. "
        "The images of a class use the templates in turn.",
    )
    names: str | dict[str, str] = Field(
        {},
        description="The words for a class, or for a value of a group, in prompts: a block of name: words, or a table "
        "(Parquet or CSV) with the columns label and name. The default is the name itself.",
    )
    modifiers: str | list[str] | dict[str, list[str]] | None = Field(
        None,
        description="Texts that replace {modifier}: a list for all classes, a block of class: list, `general` (a "
        "built-in list of 20), or a table (Parquet or CSV) with the columns label and modifier.",
    )
    file: str | None = Field(
        None,
        description="Table (Parquet or CSV) of finished prompts with the columns label and prompt. It replaces the "
        "templates for the classes that it names.",
    )
    negative: str = Field(
        "",
        description="Negative prompt: what the images must not show; empty: none. It needs classifier-free guidance "
        "above 1.",
    )
    truncate: bool = Field(
        False,
        description="Accept prompts that have more tokens than the text encoder of the model reads; their ends are "
        "ignored. false: such a prompt is an error.",
    )

    @field_validator("templates")
    @classmethod
    def _templates_contain_label(cls, templates: list[str]) -> list[str]:
        for template in templates:
            if "{label}" not in template:
                raise ValueError(f"{template!r} must contain {{label}}; add it")
        return templates

    @field_validator("names", "modifiers", mode="before")
    @classmethod
    def _class_names_are_text(cls, block: Any) -> Any:
        for key in block if isinstance(block, dict) else ():
            if isinstance(key, bool):  # NO: Norway
                raise ValueError(
                    f"a class name must be text: YAML reads one of it as {str(key).lower()}, because yes, no, on, off, "
                    "true and false are no texts without quotes; add the quotes"
                )
            if not isinstance(key, str):
                raise ValueError(f"a class name must be text; write '{key}', with the quotes")
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
        if any(not isinstance(texts, list) or any(not isinstance(text, str) for text in texts) for texts in lists):
            raise ValueError(
                "should be a list of texts, a block of class: list of texts, the word general, or the path of a table"
            )
        if not lists or any(not texts for texts in lists):
            raise ValueError("a list of modifiers must not be empty; add some, or leave it out")
        if any(not text.strip() for texts in lists for text in texts):
            raise ValueError("a modifier must not be empty; for images without one, add a template without {modifier}")
        return modifiers

    @model_validator(mode="after")
    def _modifiers_belong_to_their_placeholder(self):
        used = any("{modifier}" in template for template in self.templates)
        self._require_exactly_with("modifiers", "{modifier} in a template", used)
        return self
