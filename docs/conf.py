"""Sphinx settings of the site, which `make docs` builds.

The source folder is the whole repository, so a link works on the site as it does in the repository, and no page has to
move. A link to a file that is no page downloads it.
"""

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
autodoc_typehints_format = "short"

html_theme = "furo"
html_show_sourcelink = html_copy_source = False

PAGE_LINK = r"\[([^\]]+)\]\(([^)\s#]+)\.md\)"


def add_navigation(app, page: str, content: list[str]) -> None:
    """Give three pages hidden lists of other pages: the sidebar. A page in none of them is an error of the build.

    The home page gets the sections of docs/README.md, in its order and words. A page about the pages of a folder gets
    those that it links to.
    """
    if page == root_doc:
        overview = (ROOT / "docs/README.md").read_text()
        content[0] += toctree("", [("All pages", "/docs/README")])
        for title, items in re.findall(r"^\*\*(.+)\*\*\n((?:(?:- |  ).*\n)+)", overview, re.MULTILINE):
            links = re.findall(f"^- {PAGE_LINK}", items, re.MULTILINE)
            content[0] += toctree(title, [(text, in_repository(f"docs/{path}")) for text, path in links])
    elif page in ("docs/api/README", "docs/results"):
        folder = Path(page).parent if page.endswith("README") else Path(page)
        paths = [in_repository(f"{Path(page).parent}/{path}") for _, path in re.findall(PAGE_LINK, content[0])]
        children = [path for path in dict.fromkeys(paths) if Path(path).parent == Path("/") / folder]
        content[0] += toctree("", [(None, path) for path in children])


def in_repository(path: str) -> str:
    """The path of a page from the root of the repository, with a slash before it, as Sphinx writes it."""
    return f"/{(ROOT / path).resolve().relative_to(ROOT)}"


def toctree(caption: str, entries: list[tuple[str | None, str]]) -> str:
    """A hidden list of pages. entries: title in the sidebar (None: that of the page), and path."""
    pages = [f"{title} <{path}>" if title else path for title, path in entries]
    head = ["```{toctree}", ":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["", *head, "", *pages, "```", ""])


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
    app.connect("build-finished", write_index)
