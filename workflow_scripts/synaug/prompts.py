"""What the generator is asked for."""

from pathlib import Path

from synaug.config import Prompts
from synaug.errors import UserError


def class_prompts(prompts: Prompts, classes: list[str]) -> dict[str, list[str]]:
    """Class name -> its prompts, one per template, in the order of the templates.

    Raises UserError if `prompts.names` names a class that the data do not have, or gives it no words.
    """
    for name, words in prompts.names.items():
        if name not in classes:
            raise UserError(f"prompts.names: no class is called {name!r} (classes: {', '.join(classes)})")
        if not words.strip():
            raise UserError(f"prompts.names: {name!r} has no words; give some or remove the key")
    return {
        name: [template.replace("{label}", prompts.names.get(name, name)) for template in prompts.templates]
        for name in classes
    }


def prompt_files(prompts: Prompts) -> list[str]:
    """The tables that `prompts` reads. Raises UserError for one that is not there."""
    files = [prompts.file] if prompts.file else []
    if isinstance(prompts.modifiers, str) and prompts.modifiers != "general":
        files.append(prompts.modifiers)
    for file in files:
        if not Path(file).is_file():
            raise UserError(f"prompts: {file}: no such file; give a Parquet or CSV table")
    return files
