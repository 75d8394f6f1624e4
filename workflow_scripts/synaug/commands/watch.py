"""`synaug watch`: how far a run is that was started elsewhere."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from snakemake_logger_plugin_synaug.run import EVENTS_FOLDER, EVENTS_SUFFIX, Job, Run, duration
from snakemake_logger_plugin_synaug.view import REFRESH_S, Lines, ended_line, open_display, state_lines, summary
from synaug.runtime.errors import ERROR_PREFIX, UserError

SILENT_S = 120  # a run sets the time of its file every 10 s; a file server may show it a minute late
WAIT_S = 30  # how long a run that seems to be dead gets for a sign of life: the clocks of two machines may differ
CLOCKS_DIFFER_S = 3600  # by so much at most; after a longer silence there is no wait


def watch(
    experiment: Annotated[Path, typer.Argument(help="results/<experiment>", show_default=False)],
    once: Annotated[bool, typer.Option("--once", help="Print how far it is, and exit.")] = False,
) -> None:
    """Show the progress of a run and what failed.

    Shows the newest run of the experiment, or of the study, like the terminal in which snakemake runs. Start it in a
    second terminal, or on any machine that sees the folder. It ends with the run; Ctrl-C closes only this view.

    \b
    Example:
      synaug watch results/fashion_mnist_lt
    """
    events = newest_run(experiment)
    run, display = events.run, open_display(sys.stdout)
    if not run.ended and (once or isinstance(display, Lines)):
        for line in state_lines(run):
            display.show(line)
    closed = False
    try:
        while events.is_going(display.show) and not once:
            for job in events.read():
                display.show(ended_line(run, job), "red" if job.error else "")
            display.refresh(run)
            time.sleep(REFRESH_S)
    except KeyboardInterrupt:
        closed = True
    finally:  # also after an error: the rows hide the cursor
        display.close()
    for line in summary(run) if run.ended else []:
        display.show(line)
    for job in run.failed():
        display.show(f"{ERROR_PREFIX}{job.error}  (log: {', '.join(job.logs)})", "red")
    dead = not closed and not run.ended and events.silent_s() > SILENT_S
    if dead:
        display.show(f"No sign of life for {duration(events.silent_s())}: the run or its machine was stopped", "red")
    stopped = run.ended and run.done < run.total
    raise typer.Exit(1 if dead or stopped or run.failed() else 0)


class Events:
    """The events of a run, read from the file that its process writes."""

    def __init__(self, file: Path) -> None:
        """Read what is in `file` so far."""
        self.file, self.position = file, 0
        self.run = Run(file.parents[2])
        # The time of the file as it was seen last, since when by the clock of this process, and whether it has changed.
        self.modified, self.since, self.has_changed = file.stat().st_mtime, time.monotonic(), False
        for _ in self.read():
            pass

    def read(self) -> Iterator[Job]:
        """Feed what is new into `run`; the jobs that have ended, each while `run` is at its event."""
        with self.file.open("rb") as file:
            file.seek(self.position)
            for line in file:
                if not line.endswith(b"\n"):  # being written
                    return
                self.position += len(line)
                try:
                    event = json.loads(line)
                except ValueError:  # the disk was full, or the machine went down
                    continue
                if job := self.run.feed(event):
                    yield job

    def is_going(self, say: Callable[[str], None]) -> bool:
        """Whether the run goes on.

        If the clock of this machine alone says that it does not, `say` gets a line, and a sign of life is waited for.
        """
        if not self.run.ended and SILENT_S < self.silent_s() < CLOCKS_DIFFER_S and not self.has_changed:
            say(f"No sign of life for {duration(self.silent_s())}: waiting {WAIT_S} s for one, since clocks may differ")
            until = time.monotonic() + WAIT_S
            while self.silent_s() > SILENT_S and time.monotonic() < until:
                time.sleep(REFRESH_S)
        return not self.run.ended and self.silent_s() <= SILENT_S

    def silent_s(self) -> float:
        """Seconds since the run last set the time of its file.

        By the clock of this process, once it has seen that time change. Until then the time is all that is known.
        """
        with self.file.open("rb") as file:  # opened, since a file server then looks it up
            modified = os.fstat(file.fileno()).st_mtime
        if modified != self.modified:
            self.modified, self.since, self.has_changed = modified, time.monotonic(), True
        seen = time.monotonic() - self.since
        return seen if self.has_changed else max(seen, time.time() - modified)


def newest_run(experiment: Path) -> Events:
    """The newest run that has a job of `experiment`, or, if that is a study, of one of its variants.

    Raises UserError if there is none.
    """
    experiment = Path(os.path.abspath(experiment))  # `.` has no name
    folder = experiment.parent.parent / EVENTS_FOLDER
    for file in sorted(folder.glob(f"*{EVENTS_SUFFIX}"), reverse=True):
        events = Events(file)
        if any(_is_of(job, experiment.name, events.run) for job in events.run.jobs.values()):
            return events
    raise UserError(
        f"{experiment}: {folder} records no run of it; name an experiment that was started, results/<experiment>"
    )


def _is_of(job: Job, name: str, run: Run) -> bool:
    """Whether `job` of `run` is one of the experiment or the study `name`.

    A variant of a study is an experiment <study>-<variant>, and its rules are called <variant>_<rule>. By both it is
    told from another experiment whose name begins with that of the study.
    """
    for path in [*job.logs, *job.outputs]:
        if found := re.search(rf"(?:results|logs)/{re.escape(name)}(?:-([^/]+))?/", path):
            variant = found[1]
            if variant is None or ("summarise_study" in run.planned and job.rule.startswith(f"{variant}_")):
                return True
    return False
