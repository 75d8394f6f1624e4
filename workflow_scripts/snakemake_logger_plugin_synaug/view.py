"""A run as a person sees it: on a terminal one bar, the jobs that run and a line for each that ended; elsewhere lines.

The logger plugin shows the run of its own process, `synaug watch` one of another process: both by this.
"""

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TextIO

from snakemake_logger_plugin_synaug.run import Job, Run, duration

_JOBS = 10  # running jobs that are shown; a cluster runs hundreds
_ALL = "All steps"  # the row of the whole run
REFRESH_S = 1.0


def is_terminal(stream: TextIO) -> bool:
    """Whether `stream` can show what changes in place."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def ended_line(run: Run, job: Job) -> str:
    """The line for a job that has ended."""
    clock, width = time.strftime("%H:%M:%S", time.localtime(job.ended)), len(str(run.total))
    line = f"{clock} [{run.done:{width}}/{run.total}] {job.name}"
    if not job.error:
        return f"{line}: {duration(job.seconds)}"
    log = f" (log: {job.logs[0]})" if job.logs else ""
    return f"{line}: failed after {duration(job.seconds)}: {job.error}{log}"


def overall(run: Run, now: float) -> str:
    """How far the whole run is."""
    parts = [f"{run.done}/{run.total}", duration(now - run.started)]
    if left := run.seconds_left(now):
        seconds, whole = left
        parts.append(f"{'about' if whole else 'at least'} {duration(seconds)} left")
    return ", ".join(parts)


def state(run: Run, job: Job, now: float) -> str:
    """How far a running job is."""
    if progress := run.progress(job):
        return progress.text
    since = duration(now - job.started)
    return since if run.has_begun(job) else f"queued or starting, {since}"


def state_lines(run: Run) -> list[str]:
    """A run that goes on as lines: its running jobs, and all of it."""
    now = time.time()
    return [*(f"{job.name}: {state(run, job, now)}" for job in run.running()), overall(run, now)]


def summary(run: Run) -> list[str]:
    """The lines at the end of a run."""
    seconds = duration(run.ended - run.started)
    if run.done == run.total and not run.failed():
        lines = [f"{run.total} of {run.total} steps done in {seconds}"]
    else:
        failed = f", {len(run.failed())} failed" if run.failed() else ""
        lines = [f"Stopped after {seconds}: {run.done} of {run.total} steps done{failed}"]
    if report := run.report():
        lines.append(f"Report: {report}")
    return lines


def planned_table(stats: dict[str, int], reasons: Mapping[str, Counter[str]]) -> list[str]:
    """The lines for a dry run: jobs by rule, and why; where reasons differ, with how many jobs have each.

    stats: rule -> jobs, with `total`. reasons: rule -> reason -> jobs.
    """
    counts = {rule: count for rule, count in stats.items() if rule != "total"}
    width = max(map(len, counts))
    lines = [f"{'jobs':>6}  {'step':{width}}  because"]
    for rule, count in counts.items():
        because = [f"{why} ({n})" if n < count else why for why, n in reasons.get(rule, {}).items()]
        lines.append(f"{count:>6}  {rule:{width}}  {', '.join(because)}".rstrip())
    return [*lines, f"{stats['total']:>6}  in all (a dry run: nothing was made)"]


class Lines:
    """Output that is no terminal: lines, as they come."""

    def __init__(self, stream: TextIO) -> None:
        """stream: where they go."""
        self.stream = stream

    def show(self, text: str, style: str = "") -> None:
        """Write `text` in one piece: other threads and jobs write to the same stream."""
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def refresh(self, run: Run) -> None:
        """Nothing: there is nothing that could be changed."""

    def close(self) -> None:
        """Nothing to end."""


class Terminal:
    """A terminal: lines, and below them how far the run is."""

    def __init__(self, stream: TextIO, capture: bool = False, color: bool = True) -> None:
        """stream: the terminal.

        capture: what other code and the jobs write to the terminal goes through here too, as long as a run is shown;
        written directly it would be mixed up with the rows at the bottom.
        """
        from rich.console import Console

        # A copy: the stream itself may be captured.
        self.file = os.fdopen(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors="replace")
        self.console = Console(file=self.file, no_color=True if not color else None, highlight=False)
        self.capture = capture
        self.live = self.captured = None

    def show(self, text: str, style: str = "") -> None:
        """Write `text` above the rows."""
        from rich.text import Text

        line = Text.from_ansi(text)
        line.stylize(style)
        self.console.print(line, soft_wrap=True)

    def refresh(self, run: Run) -> None:
        """Show how far `run` is now."""
        from rich.live import Live

        size = os.get_terminal_size(self.file.fileno())
        if size.columns and size.lines:  # some terminals do not know theirs
            self.console.size = size
        if not self.live:
            self.live = Live(
                console=self.console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            if self.capture:
                self.captured = _Captured(self.file, self.show)
            self.live.start()
        self.live.update(self._rows(run), refresh=True)

    def close(self) -> None:
        """Take the rows away."""
        if self.live:
            if self.captured:
                self.captured.close()
            self.live.stop()
            self.live = None

    def _rows(self, run: Run):
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        now, width = time.time(), self.console.width
        jobs = sorted(run.running(), key=run.has_begun, reverse=True)
        shown = jobs[: max(0, min(_JOBS, self.console.height - 4))]
        more = f"and {len(jobs) - len(shown)} more" if len(jobs) > len(shown) else ""
        names = min(max(len(name) for name in [_ALL, more, *(job.name for job in shown)]), width // 3)
        bars = min(20, max(0, width - 60))
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=names, no_wrap=True, overflow="ellipsis")
        grid.add_column(width=bars, no_wrap=True)
        # Not up to the edge: the `^C` that a terminal adds would begin a row.
        grid.add_column(max_width=max(1, width - names - bars - 5), no_wrap=True, overflow="ellipsis")
        for job in shown:
            progress = run.progress(job)
            bar = ProgressBar(max(1, progress.total), progress.done) if progress else ""
            grid.add_row(Text(job.name), bar, Text(state(run, job, now), style="dim"))
        if more:
            grid.add_row(Text(more, style="dim"))
        bar = ProgressBar(max(1, run.total), run.done)
        grid.add_row(Text(_ALL, style="bold"), bar, Text(overall(run, now), style="bold"))
        return grid


class _Captured:
    """Standard output and error of this process and its children, line by line, where they are the terminal."""

    def __init__(self, terminal: TextIO, show: Callable[[str], None]) -> None:
        """terminal: the one; show: gets every line."""
        reading, writing = os.pipe()
        same = os.ttyname(terminal.fileno())
        self.saved = {}
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None and stream.isatty() and os.ttyname(stream.fileno()) == same:
                self.saved[stream.fileno()] = os.dup(stream.fileno())
                os.dup2(writing, stream.fileno())
        os.close(writing)
        self.show = show
        self.thread = threading.Thread(target=self._pass_on, args=(reading,), daemon=True)
        self.thread.start()

    def _pass_on(self, reading: int) -> None:
        with os.fdopen(reading, errors="replace") as lines:
            for line in lines:
                self.show(line.rstrip("\n"))

    def close(self) -> None:
        """Give the streams back. Jobs that are still there have the pipe open: they are not waited for."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, saved in self.saved.items():
            os.dup2(saved, number)
            os.close(saved)
        self.thread.join(timeout=1)


def open_display(stream: TextIO, capture: bool = False, color: bool = True) -> Lines | Terminal:
    """What shows a run on `stream`: lines also on a terminal, if rich is not installed."""
    with suppress(ImportError):
        if is_terminal(stream):
            return Terminal(stream, capture, color)
    return Lines(stream)
