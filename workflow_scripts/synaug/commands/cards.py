"""Renders the README of an exported data set or model from its template beside this module."""

import jinja2
import pandas as pd

from synaug.runtime.shown_text import markdown_code, markdown_text


def render_card(template: str, **values) -> str:
    """The text of `template`, a file <name>.md.j2 of this package, with `values` filled in."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("synaug.commands", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = lambda value: "-" if value is None or pd.isna(value) else f"{100 * value:.1f}"
    environment.filters["text"] = markdown_text
    environment.filters["code"] = markdown_code
    return environment.get_template(template).render(**values)
