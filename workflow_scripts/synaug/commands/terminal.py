"""Output shared by the commands: numbers with their unit, text from data, tables, and a progress bar."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDTH_WITHOUT_TERMINAL = 160  # columns


def number_of(number: int, noun: str) -> str:
    """`1,200 images`, `1 image`, `no images`."""
    return f"{number or 'no':{',' if number else ''}} {noun}{'' if number == 1 else 's'}"


def line_text(value: object) -> str:
    """`value`, such as the name of a class, on one line."""
    return " ".join(str(value).split())


def console() -> "Console":
    """Standard output, for tables."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL, highlight=False, soft_wrap=False)


def plain_table(*heads: str, numbers: int = 0) -> "Table":
    """A table without a frame, whose last `numbers` columns hold numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, head in enumerate(heads):
        is_number = index >= len(heads) - numbers
        table.add_column(head, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    return table


@contextmanager
def progress(action: str, total: int | None) -> Generator[Callable[[int], None]]:
    """A progress bar on standard error if that is a terminal.

    Yields a function that takes the number of items finished since the last call. total: all items; None: unknown.
    """
    if not sys.stderr.isatty():
        yield lambda count=1: None
        return
    from rich.console import Console
    from rich.progress import Progress

    # On a terminal, rich prints standard output above the bar, through standard error: never do that to a file.
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(action, total=total)
        yield lambda count=1: bar.advance(task, count)
