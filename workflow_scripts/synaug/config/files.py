"""Config files: their content, and faults that the parsed content no longer shows."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from synaug.runtime.errors import UserError, short_text
from synaug.runtime.files import check_regular_file


@cache  # the variants of a study read the same file
def check_config_file(path: str | Path) -> None:
    """Raise UserError if the YAML or JSON file at `path` has a key twice in one block: all but the last would be lost.

    A file that cannot be parsed has no such fault; Snakemake reports it.
    """
    check_regular_file(path)
    try:
        with open(path, encoding="utf-8") as text:
            waiting = [yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return
    done = set()  # an alias is the same node again
    while waiting:
        node = waiting.pop()
        if id(node) in done:
            continue
        done.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                waiting.append(value)
                if not isinstance(key, yaml.ScalarNode):
                    continue
                line, known = key.start_mark.line + 1, (key.tag, key.value)
                if known in lines:
                    raise UserError(
                        f"{path}: line {line}: the key {key.value!r} is already in line {lines[known]}",
                        advice="leave one of them",
                    )
                lines[known] = line


def read_config_file(path: Path) -> dict[str, Any]:
    """The keys in the config file at `path`, not validated. Raises UserError if they cannot be read."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file", advice="name the config of an experiment")
    check_config_file(path)
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({short_text(error)})", advice="correct it") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: should be a block of keys", advice="name the config of an experiment")
    return config
