"""Text from data (names of classes, licences, prompts), escaped for the Markdown pages and CSV files that show it."""

import re

# A spreadsheet takes a cell that begins with one of these for a formula. An apostrophe before it makes it a text.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def markdown_text(value: object) -> str:
    """`value` on one line of a Markdown page, with nothing in it taken for Markdown or HTML."""
    text = " ".join(str(value).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", text)


def markdown_code(value: object) -> str:
    """`value` between backquotes on a Markdown page."""
    return f"`{' '.join(str(value).split()).replace('`', chr(39))}`"


def csv_cell(value: object) -> object:
    """`value` for a CSV file: a text that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def from_csv_cell(text: str) -> str:
    """The text that `csv_cell` made `text` of."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
