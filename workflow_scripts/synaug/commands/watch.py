"""`synaug watch`: how far a run is."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

EVERY_S, PLAIN_EVERY_S = 1.0, 30.0


def watch(
    experiment: Annotated[Path, typer.Argument(help="results/<experiment>", show_default=False)],
    once: Annotated[bool, typer.Option("--once", help="Say how far it is, and end.")] = False,
) -> None:
    """Show how far a run is, and how long it will take.

    Start it in a second terminal, before or while snakemake runs, here or on any machine that sees the folder. It
    ends when the report is written, or by Ctrl-C, which does not touch the run. Where the output is no terminal it
    prints plain lines, one every half minute.

    \b
    Example:
      synaug watch results/fashion_mnist_lt
    """
    from synaug.watch import Watch

    one = Watch(experiment)
    try:
        if once or not sys.stdout.isatty():
            _plain(one, once)
        else:
            _live(one)
    except KeyboardInterrupt:
        pass
    errors = one.errors()
    for line in errors:
        print(line)
    raise typer.Exit(1 if errors else 0)


def _plain(one, once: bool) -> None:
    said = None
    while True:
        text = "; ".join(map(describe, one.look()))
        text = "; ".join(filter(None, [text, *one.running()])) or "nothing yet"
        if text != said:
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
        said = text
        if once or one.finished():
            return
        time.sleep(PLAIN_EVERY_S)


def describe(line) -> str:
    """A line of the watch as text."""
    if line.unit == "trained":
        return f"{line.done} networks trained"
    parts = [f"{line.what} {line.done:,}/{line.total:,}", line.detail]
    if line.left_s is not None and line.done < line.total:
        parts.append(f"{duration(line.left_s)} left")
    return ", ".join(filter(None, parts))


def duration(seconds: float) -> str:
    """`seconds` as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _live(one) -> None:
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def table() -> Table:
        grid = Table.grid(padding=(0, 2))
        for line in one.look():
            left = "" if line.left_s is None or line.done >= line.total else f"{duration(line.left_s)} left"
            count = f"{line.done:,} of {line.total:,} {line.unit}" if line.unit != "trained" else f"{line.done} trained"
            grid.add_row(line.what, ProgressBar(max(1, line.total), line.done, width=30), count, line.detail, left)
        if running := one.running():
            grid.add_row(Text("also: " + ", ".join(running), style="dim"))
        if not grid.row_count:
            grid.add_row("nothing yet")
        for error in one.errors():
            grid.add_row(Text(error, style="red"))
        return grid

    with Live(table(), auto_refresh=False) as live:
        while not one.finished():
            time.sleep(EVERY_S)
            live.update(table(), refresh=True)
