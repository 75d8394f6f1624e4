"""What the commands share: numbers in words, tables, and a bar where somebody looks at it."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PIPED_WIDTH = 160  # columns, where there is no terminal that has a width


def number_of(number: int, what: str) -> str:
    """`1,200 images`, `1 image`, `no images`."""
    return f"{number or 'no':{',' if number else ''}} {what}{'' if number == 1 else 's'}"


def console() -> "Console":
    """Standard output, for tables."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH, highlight=False, soft_wrap=False)


def plain_table(*heads: str, numbers: int = 0, title: str = "") -> "Table":
    """A table without a frame; its last `numbers` columns are numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", title=title or None, title_justify="left")
    for place, head in enumerate(heads):
        right = place >= len(heads) - numbers
        table.add_column(head, justify="right" if right else "left", no_wrap=right, overflow="fold")
    return table


@contextmanager
def progress(what: str, total: int | None) -> Generator[Callable[[int], None]]:
    """A bar on standard error if that is a terminal. Yields a function: so many more are done."""
    if not sys.stderr.isatty():
        yield lambda count=1: None
        return
    from rich.console import Console
    from rich.progress import Progress

    # What is printed meanwhile stands above the bar; rich would send it to standard error, even if it is for a file.
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count=1: bar.advance(task, count)
