"""The prompts of every class or group, in the order in which its images use them."""

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
from synaug.datasets.columns import check_columns, check_separator, not_utf8
from synaug.runtime.errors import UserError
from synaug.runtime.files import check_regular_file
from synaug.runtime.shown_text import from_csv_cell

# `prompts.modifiers: general`. The paper has 20 modifiers for each class; these 20 suit most things that can be
# photographed, and vary what a bare prompt does not: light, viewpoint, distance, background. They follow the class ("a
# photo of a {label}, {modifier}"), and neighbours differ in kind, so that a class that lacks few images gets all kinds.
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
    """The prompts of every row of `cells`; image i of a cell uses prompt i modulo their number (see `plan_fill`).

    cells: columns label_name and, with groups, attributes (the values of `group_columns`). The prompts of a class are
    those of `prompts.file`, if it names the class; otherwise they are all combinations of templates and modifiers.
    Prompt i has template i modulo their number, and the modifiers advance with it, so that the first prompts vary in
    both. Every template has the same share of the prompts, with or without {modifier}. {group} stands for all values
    of the group, separated by blanks, {<group column>} for one of them, both in the words of `prompts.names`.
    Raises UserError for names, modifiers or prompts of an unknown class or group, for empty ones, for a class without
    modifiers, and for a table that cannot be used.
    """
    classes = list(dict.fromkeys(cells["label_name"]))
    groups = [tuple(values) for values in cells["attributes"]] if group_columns else [()] * len(cells)
    known = list(dict.fromkeys([*classes, *(value for values in groups for value in values)]))
    names = _read_names(prompts.names, known) if isinstance(prompts.names, str) else prompts.names
    for name, words in names.items():
        if name not in known:
            raise UserError(f"prompts.names: {_unknown_class(name, known)}")
        if not words.strip():
            raise UserError(f"prompts.names: {name!r} has no words; give some or remove the key")
    written = _read_texts("prompts.file", prompts.file, "prompt", classes) if prompts.file else {}
    modifiers = _class_modifiers(prompts, classes)
    without = [name for name in classes if name not in written and name not in modifiers]
    if without:
        others = f" (and {len(without) - 1} other classes)" if len(without) > 1 else ""
        where = "" if isinstance(prompts.modifiers, dict) else f" {prompts.modifiers}:"
        raise UserError(f"prompts.modifiers:{where} class {without[0]!r}{others} has no modifiers; add some for it")
    prompts_of_cells = []
    for name, values in zip(cells["label_name"], groups, strict=True):
        group_words = [names.get(value, value) for value in values]
        placeholders = {"label": names.get(name, name), "group": " ".join(group_words)}
        placeholders |= dict(zip(group_columns, group_words, strict=True))
        if name not in written:
            texts = _combinations(prompts.templates, placeholders, modifiers[name] or [""])
        elif group_columns:
            texts = [_fill(text, placeholders) for text in written[name]]
        else:
            texts = written[name]
        prompts_of_cells.append(texts)
    return prompts_of_cells


def caption_prompts(prompts: Prompts) -> Prompts:
    """The prompts as captions of real images: templates and names, without modifiers and finished prompts.

    A modifier ("in dim light") is not true of a real image that is drawn for it. A model that is trained with it
    learns that the words mean nothing, and would ignore them in the prompts.
    """
    templates = [
        " ".join(re.sub(r"[\s,;]*\(?\{modifier\}\)?", "", template).split()).strip(" ,;")
        for template in prompts.templates
    ]
    return Prompts(templates=list(dict.fromkeys(templates)), names=prompts.names, truncate=prompts.truncate)


def prompt_files(prompts: Prompts) -> list[str]:
    """The tables that `prompts` reads. Raises UserError for a missing one."""
    files = {"prompts.file": prompts.file} if prompts.file else {}
    if isinstance(prompts.names, str):
        files["prompts.names"] = prompts.names
    if isinstance(prompts.modifiers, str) and prompts.modifiers != "general":
        files["prompts.modifiers"] = prompts.modifiers
    for key, file in files.items():
        check_regular_file(file)
        if not Path(file).is_file():
            instead = {"prompts.modifiers": "`general`, a list, or ", "prompts.names": "a block, or "}.get(key, "")
            raise UserError(f"{key}: {file}: no such file; give {instead}a Parquet or CSV table")
    return list(files.values())


def _read_names(file: str, known: list[str]) -> dict[str, str]:
    """Class name, or value of a group -> its words, from the table `file` (columns label and name)."""
    texts = _read_texts("prompts.names", file, "name", known)
    for label, words in texts.items():
        if len(words) > 1:
            raise UserError(f"prompts.names: {file}: {label!r} has {len(words)} rows; leave one")
    return {label: words[0] for label, words in texts.items()}


def _combinations(templates: list[str], placeholders: dict[str, str], modifiers: list[str]) -> list[str]:
    """Every pair of template and modifier once, in an order whose beginnings vary as much as possible in both."""
    if not any("{modifier}" in template for template in templates):
        modifiers = [""]
    # Both advance together. After `period` pairs they would repeat, so the modifiers are shifted by one more.
    period = lcm(len(templates), len(modifiers))
    pairs = (
        (templates[i % len(templates)], modifiers[(i + i // period) % len(modifiers)])
        for i in range(len(templates) * len(modifiers))
    )
    return [_fill(template, placeholders | {"modifier": modifier}) for template, modifier in pairs]


def _fill(template: str, placeholders: dict[str, str]) -> str:
    """Replace all {placeholders} in one pass, since the name of a class may itself hold braces or backslashes."""
    return re.sub(r"\{([^{}]*)\}", lambda match: placeholders.get(match[1], match[0]), template)


def _class_modifiers(prompts: Prompts, classes: list[str]) -> dict[str, list[str]]:
    """Class name -> its modifiers; without the classes that the block or the table does not name."""
    match prompts.modifiers:
        case None:
            return {name: [] for name in classes}
        case "general":
            return {name: list(GENERAL) for name in classes}
        case str(file):
            return _read_texts("prompts.modifiers", file, "modifier", classes)
        case dict(by_class):
            for name in by_class:
                if name not in classes:
                    raise UserError(f"prompts.modifiers: {_unknown_class(name, classes)}")
            return by_class
        case list(shared):
            return {name: shared for name in classes}


def _read_texts(key: str, file: str, column: str, classes: list[str]) -> dict[str, list[str]]:
    """Class name -> its texts, in the order of the rows of the table `file` (columns label and `column`).

    key: the config key, for messages. Raises UserError if a row names an unknown class or has no text.
    """
    texts: dict[str, list[str]] = {}
    known = set(classes)
    for row, (label, text) in enumerate(_read_rows(key, file, ["label", column]), 1):
        where = f"{key}: {file}: row {row} (not counting the header)"
        if label not in known:
            raise UserError(f"{where}: {_unknown_class(label, classes)}")
        if not text.strip():
            raise UserError(f"{where}: class {label!r} has an empty {column}; write one or remove the row")
        texts.setdefault(label, []).append(text.strip())
    if not texts:
        raise UserError(f"{key}: {file}: has no rows; add some or remove the key")
    return texts


def _read_rows(key: str, file: str, columns: list[str]) -> list[list[str]]:
    """The values of `columns`, row by row, as text; an empty cell is an empty text."""
    check_regular_file(file)
    try:
        if file.lower().endswith(".csv"):
            # Not pandas: it guesses types (007, NA) and drops text after an unquoted comma.
            with open(file, newline="", encoding="utf-8-sig") as lines:
                cells = ([from_csv_cell(cell) for cell in row] for row in csv.reader(lines, strict=True) if row)
                header, *rows = list(cells) or [[]]
            check_separator(f"{key}: {file}", header)
            for number, row in enumerate(rows, 1):
                if len(row) != len(header):
                    raise UserError(
                        f"{key}: {file}: row {number} (not counting the header): has {len(row)} fields and the header "
                        f'has {len(header)}; put a text with a comma into "quotes"'
                    )
        else:
            table = pq.read_table(file, partitioning=None)
            header = table.column_names
            rows = [["" if value is None else str(value) for value in row.values()] for row in table.to_pylist()]
    except UnicodeDecodeError:
        raise not_utf8(f"{key}: {file}") from None
    except (pa.ArrowInvalid, csv.Error, OSError) as error:
        raise UserError(
            f"{key}: {file}: cannot be read as Parquet or CSV ({error})",
            advice="write it again as one of them",
        ) from None
    check_columns(f"{key}: {file}", header, dict.fromkeys(columns, "add or rename it"))
    positions = [header.index(name) for name in columns]
    return [[row[position] for position in positions] for row in rows]


def _unknown_class(name: str, classes: list[str]) -> str:
    """The message for a name that is not in `classes`: with a similar name, or with a list of the classes."""
    similar = get_close_matches(name, classes, n=1)
    if similar:
        return f"no class is called {name!r}; did you mean {similar[0]!r}?"
    listed = ", ".join(classes[:10]) + (f", ... {len(classes)} in all" if len(classes) > 10 else "")
    return f"no class is called {name!r}; the classes: {listed}"
