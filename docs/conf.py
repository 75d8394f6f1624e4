"""Sphinx settings of the site, which `make docs` builds.

The source folder is the whole repository, so a link works on the site as it does in the repository, and no page has to
move. A link to a file that is no page downloads it.
"""

import inspect
import re
import sys
from pathlib import Path

from pygments.lexers import PythonLexer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow_scripts"))

import synaug  # noqa: E402

project = html_title = "synaug"
author = project_copyright = "The synaug developers"
version = release = synaug.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinxcontrib.mermaid"]
include_patterns = ["*.md", "docs/*.md", "docs/**/*.md", "benchmarks/*.md", "experiments/*.md", "resources/*/README.md"]
exclude_patterns = [".*", "build", "logs", "results", "tests"]  # not searched for pages
root_doc = "README"

myst_heading_anchors = 6  # links to headings, as in the repository
myst_fence_as_directive = ["mermaid"]  # in the repository such a block is a diagram, too

default_role = "literal"  # docstrings have code in single backticks
autodoc_member_order = "bysource"
maximum_signature_line_length = 88  # longer ones have one parameter a line
autodoc_typehints_format = "short"

html_theme = "furo"
html_static_path, html_css_files = ["site.css"], ["site.css"]
html_show_sourcelink = html_copy_source = False

PAGE_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#]+)\.md\)")
SECTION = re.compile(r"^\*\*(.+)\*\*\n((?:(?:- |  ).*\n)+)", re.MULTILINE)  # a title in bold and a list


def add_navigation(app, page: str, content: list[str]) -> None:
    """Give three pages hidden lists of other pages: the sidebar. A page in none of them is an error of the build.

    The home page gets the lists of docs/README.md, of each item the first link. The pages about a folder get the pages
    of this folder that they link to.
    """
    if page == root_doc:
        overview = (ROOT / "docs/README.md").read_text()
        content[0] += page_list("", [("All pages", "docs/README")])
        for title, items in SECTION.findall(overview):
            links = [PAGE_LINK.match(item) for item in items.split("- ") if PAGE_LINK.match(item)]
            content[0] += page_list(title, [(link[1].replace("`", ""), f"docs/{link[2]}") for link in links])
    elif page in ("docs/api/README", "docs/results"):
        links = dict.fromkeys(path for _, path in PAGE_LINK.findall(content[0]))
        folder = "" if page.endswith("README") else f"{Path(page).name}/"
        inside = [path for path in links if path.startswith(folder) and (folder or "/" not in path)]
        content[0] += page_list("", [("", f"{Path(page).parent}/{path}") for path in inside])


def page_list(caption: str, pages: list[tuple[str, str]]) -> str:
    """A hidden list of pages. pages: title in the sidebar (empty: that of the page), and path without .md."""
    lines = []
    for title, path in pages:
        path = f"/{(ROOT / path).resolve().relative_to(ROOT)}"
        lines.append(f"{title} <{path}>" if title else path)
    head = ["```{toctree}", ":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["", *head, "", *lines, "```", ""])


def mark_names(app, what: str, name: str, documented, options, lines: list[str]) -> None:
    """Set parameters in bold where a docstring explains them, as in "real, synthetic: the manifests"; link functions.

    Only names with an underscore are links, and only those of functions that a page describes: `score` is also a word.
    """
    text = re.sub(r"`([A-Za-z]+_\w+)`", r":py:obj:`.\1`", "\n".join(lines))
    if what in ("class", "function", "method"):
        parameters = set(inspect.signature(documented).parameters)

        def bold(match: re.Match) -> str:
            names = match[2].split(", ")
            marked = ", ".join(f"**{name}**" for name in names)
            return f"{match[1]}{marked}:" if parameters.issuperset(names) else match[0]

        text = re.sub(r"(^|[.;] |\n)((?:\w+, )*\w+):(?=\s)", bold, text)
    lines[:] = text.split("\n")


def write_index(app, error: Exception | None) -> None:
    """Write index.html, which shows the home page: Sphinx names it README.html."""
    if not error:
        home = f"{root_doc}.html"
        text = f'<!doctype html><meta http-equiv="refresh" content="0; url={home}"><a href="{home}">{project}</a>\n'
        (Path(app.outdir) / "index.html").write_text(text)


def setup(app) -> None:
    """Connect the functions above, and colour rules of Snakemake as Python."""
    app.add_lexer("snakemake", PythonLexer)
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-docstring", mark_names)
    app.connect("build-finished", write_index)
