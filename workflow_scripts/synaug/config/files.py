"""Faults of a config file that its parsed content no longer shows."""

from functools import cache
from pathlib import Path

import yaml

from synaug.runtime.errors import UserError
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
