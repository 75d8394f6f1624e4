"""The page: a template, filled with the sections."""

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from jinja2.utils import markupsafe

from synaug.report.plots import inline_svg
from synaug.report.tables import column_title, percent

SECTIONS = {  # id -> heading
    "choice": "Chosen recipe",
    "results": "Results",
    "classes": "Results per class",
    "confusion": "Confusion",
    "calibration": "Calibration",
    "groups": "Groups",
    "selection": "Chosen settings",
    "imbalance": "Imbalance",
    "faults": "Faults in the data",
    "gallery": "Gallery",
    "quality": "Image quality",
    "training": "Training",
    "next": "What to do next",
    "run": "Run details",
    "glossary": "Glossary",
}


def render(template: str, context: Mapping[str, Any]) -> str:
    """The page as HTML. Everything in `context` is escaped, except the figures, which `svg_figure` marks as safe."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"column_title": column_title, "percent": percent, "duration": duration, "breaks": breaks}
    return environment.get_template(template).render(context)


def contents(context: Mapping[str, Any]) -> dict[str, str]:
    """id -> heading of the sections of this page. Some are there only if the context has them."""
    needs = {"choice": "choice", "groups": "group_columns", "selection": "selection", "faults": "faults"}
    return {key: title for key, title in SECTIONS.items() if key not in needs or context[needs[key]]}


def config_on_page(page: Path) -> dict[str, Any] | None:
    """The whole config as the report at `page` shows it; None: it shows none. The results hold it nowhere else."""
    content = page.read_text(encoding="utf-8", errors="replace")
    text = re.search(r'aria-label="The whole config">(.*?)</pre>', content, re.DOTALL)
    try:
        config = json.loads(html.unescape(text[1])) if text else None
    except ValueError:
        return None
    return config if isinstance(config, dict) else None


def final_networks_on_page(page: Path) -> dict[str, str]:
    """File -> SHA-256 of the choice and of the predictions of each final network that the report at `page` shows.

    Files are named from the folder of the experiment: chosen.parquet, final/<seed>/predictions.parquet. Empty if the
    page shows no choice.
    """
    content = page.read_text(encoding="utf-8", errors="replace")
    text = re.search(r'<script type="application/json" id="final-networks">(.*?)</script>', content, re.DOTALL)
    try:
        return json.loads(text[1]) if text else {}
    except ValueError:  # a damaged page
        return {}


def svg_figure(text: str, name: str) -> markupsafe.Markup:
    """The result of `plots.svg` for the template; matplotlib has escaped its text. name: unique on the page."""
    return markupsafe.Markup(inline_svg(text, name))


def duration(seconds: float) -> str:
    """Seconds in a readable unit: `48 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def breaks(name: str) -> markupsafe.Markup:
    """A name that may wrap after its underscores, and after dots before a letter: those of a config key."""
    return markupsafe.Markup(re.sub(r"(_|\.(?=[a-z]))", r"\1<wbr>", str(markupsafe.escape(name))))
