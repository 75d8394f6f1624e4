"""What the generator is asked for: the prompts of every class, in the order in which its images take them."""

import csv
import re
from collections.abc import Sequence
from difflib import get_close_matches
from math import lcm
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synaug.config import Prompts
from synaug.runtime.errors import UserError

# `prompts.modifiers: general`. The paper gives every class 20 modifiers of its own; these 20 suit most things that can
# be photographed, and vary what a data set varies and a bare prompt does not: light, viewpoint, distance, background.
# They read well behind the class ("a photo of a {label}, {modifier}"), and neighbours differ in kind, so that a class
# that lacks only a few images gets some of everything.
GENERAL = (
    "in bright daylight",
    "seen from the side",
    "against a plain background",
    "close-up",
    "outdoors",
    "in soft evening light",
    "seen from the front",
    "against a cluttered background",
    "from a distance",
    "indoors",
    "in dim light",
    "seen from above",
    "against a blurred background",
    "filling the frame",
    "partly hidden behind something",
    "with hard shadows",
    "seen from below",
    "off-centre in the picture",
    "on an overcast day",
    "a casual snapshot",
)


def cell_prompts(prompts: Prompts, cells: pd.DataFrame, group_columns: Sequence[str] = ()) -> list[list[str]]:
    """The prompts of every row of `cells`; image i of a cell takes prompt i modulo their number.

    cells: columns label_name and, with groups, attributes (the values of `group_columns`). The prompts are those of
    `prompts.file` for the classes that it names, and otherwise all combinations of templates and modifiers: prompt i
    has template i modulo their number, and the modifiers go round with it, so that the first few vary in both. Every
    template has the same share of the prompts, with {modifier} or without. {group} is all values of the group with
    blanks between, {<group column>} one of them, both in the words of `prompts.names`.
    Raises UserError for a name, modifier or prompt of no class or group, an empty one, a class without modifiers, and a
    table that cannot be used.
    """
    classes = list(dict.fromkeys(cells["label_name"]))
    groups = [tuple(values) for values in cells["attributes"]] if group_columns else [()] * len(cells)
    known = list(dict.fromkeys([*classes, *(value for values in groups for value in values)]))
    names = _read_names(prompts.names, known) if isinstance(prompts.names, str) else prompts.names
    for name, words in names.items():
        if name not in known:
            raise UserError(f"prompts.names: {_no_class(name, known)}")
        if not words.strip():
            raise UserError(f"prompts.names: {name!r} has no words; give some or remove the key")
    written = _read_texts("prompts.file", prompts.file, "prompt", classes) if prompts.file else {}
    modifiers = _class_modifiers(prompts, classes)
    bare = [name for name in classes if name not in written and name not in modifiers]
    if bare:
        others = f" (and {len(bare) - 1} other classes)" if len(bare) > 1 else ""
        where = "" if isinstance(prompts.modifiers, dict) else f" {prompts.modifiers}:"
        raise UserError(f"prompts.modifiers:{where} class {bare[0]!r}{others} has no modifiers; add some for it")
    found = []
    for name, values in zip(cells["label_name"], groups, strict=True):
        words = [names.get(value, value) for value in values]
        known_words = {"label": names.get(name, name), "group": " ".join(words)}
        known_words |= dict(zip(group_columns, words, strict=True))
        if name in written:
            found.append([_fill(text, known_words) for text in written[name]] if group_columns else written[name])
        else:
            found.append(_combinations(prompts.templates, known_words, modifiers[name] or [""]))
    return found


def class_prompts(prompts: Prompts, classes: list[str]) -> dict[str, list[str]]:
    """Class name -> its prompts, of a data set without groups; see `cell_prompts`."""
    return dict(zip(classes, cell_prompts(prompts, pd.DataFrame({"label_name": classes})), strict=True))


def prompt_files(prompts: Prompts) -> list[str]:
    """The tables that `prompts` reads. Raises UserError for one that is not there."""
    files = {"prompts.file": prompts.file} if prompts.file else {}
    if isinstance(prompts.names, str):
        files["prompts.names"] = prompts.names
    if isinstance(prompts.modifiers, str) and prompts.modifiers != "general":
        files["prompts.modifiers"] = prompts.modifiers
    for key, file in files.items():
        if not Path(file).is_file():
            instead = {"prompts.modifiers": "`general`, a list, or ", "prompts.names": "a block, or "}.get(key, "")
            raise UserError(f"{key}: {file}: no such file; give {instead}a Parquet or CSV table")
    return list(files.values())


def _read_names(file: str, known: list[str]) -> dict[str, str]:
    """Class name, or value of a group -> its words, by the table `file` (columns label and name)."""
    texts = _read_texts("prompts.names", file, "name", known)
    for label, words in texts.items():
        if len(words) > 1:
            raise UserError(f"prompts.names: {file}: {label!r} stands there {len(words)} times; leave one row")
    return {label: words[0] for label, words in texts.items()}


def _combinations(templates: list[str], words: dict[str, str], modifiers: list[str]) -> list[str]:
    """All pairs of template and modifier once, every prefix with as many different ones of both as it can have."""
    if not any("{modifier}" in template for template in templates):
        modifiers = [""]
    # Both count up together; after a common round the modifiers are one further on, or the same pairs would come again.
    together = lcm(len(templates), len(modifiers))
    pairs = (
        (templates[i % len(templates)], modifiers[(i + i // together) % len(modifiers)])
        for i in range(len(templates) * len(modifiers))
    )
    return [_fill(template, words | {"modifier": modifier}) for template, modifier in pairs]


def _fill(template: str, words: dict[str, str]) -> str:
    """All placeholders at once and as they are: a class may be called `{modifier}`, or hold braces or backslashes."""
    return re.sub(r"\{([^{}]*)\}", lambda found: words.get(found[1], found[0]), template)


def _class_modifiers(prompts: Prompts, classes: list[str]) -> dict[str, list[str]]:
    """Class name -> its modifiers; a class that the block or the table does not name is not in it."""
    match prompts.modifiers:
        case None:
            return {name: [] for name in classes}
        case "general":
            return {name: list(GENERAL) for name in classes}
        case str(file):
            return _read_texts("prompts.modifiers", file, "modifier", classes)
        case dict(chosen):
            for name in chosen:
                if name not in classes:
                    raise UserError(f"prompts.modifiers: {_no_class(name, classes)}")
            return chosen
        case shared:
            return {name: shared for name in classes}


def _read_texts(key: str, file: str, column: str, classes: list[str]) -> dict[str, list[str]]:
    """Class name -> its texts, in the order of the rows of the table `file` (columns label and `column`).

    key: of the config, for messages. Raises UserError if a row names no class, or has no text.
    """
    texts: dict[str, list[str]] = {}
    known = set(classes)
    for row, (label, text) in enumerate(_read_rows(key, file, ["label", column]), 1):
        # Rows are counted as a spreadsheet or `pandas` user would point at them: without the header, from 1.
        where = f"{key}: {file}: row {row} (the header not counted)"
        if label not in known:
            raise UserError(f"{where}: {_no_class(label, classes)}")
        if not text.strip():
            raise UserError(f"{where}: class {label!r} has an empty {column}; write one or remove the row")
        texts.setdefault(label, []).append(text.strip())
    if not texts:
        raise UserError(f"{key}: {file}: has no rows; add some or remove the key")
    return texts


def _read_rows(key: str, file: str, columns: list[str]) -> list[list[str]]:
    """The values of `columns`, row by row, as text; an empty cell is an empty text."""
    try:
        if file.lower().endswith(".csv"):
            # Not pandas: it guesses types (007, NA), and drops what stands behind an unquoted comma.
            with open(file, newline="", encoding="utf-8-sig") as lines:
                header, *rows = [row for row in csv.reader(lines, strict=True) if row] or [[]]
            for number, row in enumerate(rows, 1):
                if len(row) != len(header):
                    raise UserError(
                        f"{key}: {file}: row {number} (the header not counted): has {len(row)} fields and the header "
                        f'has {len(header)}; put a text with a comma into "quotes"'
                    )
        else:
            table = pq.read_table(file, partitioning=None)
            header = table.column_names
            rows = [["" if value is None else str(value) for value in row.values()] for row in table.to_pylist()]
    except (pa.ArrowInvalid, csv.Error, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{key}: {file}: cannot be read as Parquet or CSV in UTF-8 ({error})") from None
    for name in columns:
        if header.count(name) != 1:
            there = ", ".join(header) or "none"
            raise UserError(f"{key}: {file}: needs one column {name!r} (there: {there}); add or rename it")
    places = [header.index(name) for name in columns]
    return [[row[place] for place in places] for row in rows]


def _no_class(name: str, classes: list[str]) -> str:
    """What to say of a name that is not in `classes`: the likely one, or what there is."""
    likely = get_close_matches(name, classes, n=1)
    shown = ", ".join(classes[:10]) + (f", ... {len(classes)} in all" if len(classes) > 10 else "")
    return f"no class is called {name!r}" + (f"; did you mean {likely[0]!r}?" if likely else f" (classes: {shown})")
