"""The page: what the sections made of the manifests, put into a template."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from synaug.report.plots import inline_svg
from synaug.report.tables import percent, subset_name

SECTIONS = {
    "results": "Results",
    "classes": "Class by class",
    "confusion": "Confusion",
    "calibration": "Calibration",
    "groups": "Groups",
    "selection": "Chosen settings",
    "imbalance": "Imbalance",
    "gallery": "Gallery",
    "quality": "Synthetic images",
    "training": "Training",
    "next": "What to do next",
    "made": "What was done",
    "glossary": "Glossary",
}


def render(template: str, context: Mapping[str, Any]) -> str:
    """The page. Everything in `context` is escaped, except figures, which are marked as safe by `svg_figure`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"subset": subset_name, "percent": percent, "duration": duration, "breaks": breaks}
    return environment.get_template(template).render(context)


def contents(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(id, name) of the sections that this page has."""
    return [(key, name) for key, name in SECTIONS.items() if key not in ("groups", "selection") or context[key]]


def svg_figure(figure: Figure, name: str) -> jinja2.utils.markupsafe.Markup:
    """A figure for the template. matplotlib has escaped the text in it. name: unique on the page."""
    return jinja2.utils.markupsafe.Markup(inline_svg(figure, name))


def duration(seconds: float) -> str:
    """Seconds as people say them: `48 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def breaks(name: str) -> jinja2.utils.markupsafe.Markup:
    """A long name, which may be broken behind its underscores."""
    return jinja2.utils.markupsafe.escape(name).replace("_", jinja2.utils.markupsafe.Markup("_<wbr>"))
