"""What Snakemake shows while it runs (`--logger synaug`, set by the profiles): how far it is, and what failed.

Every event of a run is also written to a file in .snakemake/log/, one JSON object a line, with all inputs, outputs and
reasons; `synaug watch` reads it. Snakemake writes its own log next to it as always. With --verbose or --debug-dag the
terminal shows Snakemake's own text.
"""

import json
import logging
import os
import re
import sys
import threading
import time
from collections import Counter, defaultdict
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_synaug.run import EVENTS_FOLDER, EVENTS_SUFFIX, HEARTBEAT_S, Run, error_line
from snakemake_logger_plugin_synaug.view import REFRESH_S, ended_line, open_display, planned_table, summary

# Event of Snakemake -> what of it is kept. The events that are not listed repeat what these say.
_FIELDS = {
    LogEvent.WORKFLOW_STARTED: ("snakemake_version", "host", "user", "cmd", "configfiles", "cwd"),
    LogEvent.RUN_INFO: ("stats",),
    LogEvent.JOB_INFO: (
        *("jobid", "rule_name", "rule_msg", "wildcards", "reason", "threads", "resources", "local"),
        *("input", "output", "log", "benchmark"),
    ),
    LogEvent.JOB_FINISHED: ("job_id",),
    LogEvent.JOB_ERROR: ("jobid", "rule_name", "rule_msg", "log", "aux"),
    LogEvent.PROGRESS: ("done", "total"),
    LogEvent.SHELLCMD: ("shellcmd", "cmd"),
}

# How messages start that say how Snakemake works, or repeat what is shown anyway. Snakemake's own log has them.
_NOISE = (
    *("Assuming unrestricted shared filesystem", "Building DAG of jobs", "Using shell: ", "Elapsed time: "),
    *("Conda environments: ignored", "Singularity containers: ignored", "Group jobs: inactive", "Complete log(s): "),
    *("Select jobs to execute", "Updating checkpoint dependencies", "DAG of jobs will be updated after completion"),
    *("Job rate limit reached", "Exiting because a job execution failed", "WorkflowError:\nAt least one job did not"),
    # Files, one by one.
    *("Removing output files of failed job", "Removing temporary output", "Removing local copy of storage file"),
    *("Retrieving from storage", "Finished retrieval", "Storing in storage", "Storing output in storage"),
    *("Finished upload", "Cannot restore "),
    # A dry run.
    *("This was a dry-run", "Would remove temporary output", "Reasons:\n", "Some jobs were triggered by provenance"),
    "Rules with provenance triggered jobs",
)
_NOISE_PATTERN = re.compile(
    r"(?:None)?$|Job \d+ has been submitted with SLURM jobid|Submitted (?:group )?job \S+ with external jobid"
    # A job's own event says why it failed. Status 1: its script wrote the error to its log; 130: Ctrl-C.
    r"|RuleException:\nCalledProcessError.*non-zero exit status (?:1|130)\.$",
    re.DOTALL,
)

# Snakemake's reasons to run a job -> the same in short.
_REASONS = {
    "Missing output files": "output missing",
    "Incomplete output files": "output incomplete",
    "Updated input files": "input changed",
    "Input files updated by another job": "new input",
    "Set of input files has changed": "other input files",
    "Code has changed": "code changed",
    "Software environment definition has changed": "environment changed",
    "Forced execution": "forced",
    "Rules with": "always run",
}

# Parameters of rules that are no settings, as Snakemake writes them -> the reason if one has changed: two hashes of
# images (`images_of` in rules/common.smk), and the hash of code (`code` there).
_HASHES = {r"\['[0-9a-f]{64}', '[0-9a-f]{64}'\]": "images changed", r"'[0-9a-f]{16}'": "code changed"}

# What is said of a failed job whose log has no error; the second, of one of several jobs that share a submission to a
# cluster: Snakemake reports all of them as failed if one is.
_NO_REASON = "its log has no error message; was it killed, e.g. for lack of memory?"
_NO_REASON_SHARED = "no error of its own; another job of its submission failed, or all were killed"


class LogHandler(LogHandlerBase):
    """Shows a run and writes its events to a file."""

    writes_to_stream = True
    writes_to_file = False  # for Snakemake: writes to one file, known from the start, and not to the terminal
    has_filter = True  # --quiet hides lines; the file of events stays complete
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Open nothing yet: most calls of Snakemake run no job."""
        settings = self.common_settings
        stream = sys.stdout if settings.stdout else sys.stderr
        self.quiet = {level.name for level in settings.quiet or ()}
        self.snakemakes = _snakemakes_handler(settings, stream) if settings.verbose or settings.debug_dag else None
        self.display = open_display(stream, capture=True, color=not settings.nocolor)
        self.run, self.reasons = Run(Path()), defaultdict(Counter)
        self.events: list[dict] = []  # those before there is a file
        self.file: TextIO | None = None
        self.incomplete = False  # an event could not be written
        self.guard = threading.Lock()  # of `run`, which two threads use
        self.stopped = threading.Event()
        # Two threads: a view that fails or waits (Ctrl-S) must not look like a run that was stopped.
        self.threads = [threading.Thread(target=target, daemon=True) for target in (self._keep_shown, self._keep_alive)]

    def emit(self, record: logging.LogRecord) -> None:
        """Show what `record` says, and write its event to the file."""
        try:
            if event := as_event(record):
                if event["event"] == "job_info" and self.file:
                    with suppress(OSError):
                        event["file_server_ahead_s"] = file_server_ahead_s(self.file)
                with self.guard:
                    job = self.run.feed(event)
                if not self.common_settings.dryrun:
                    self._write(event)
            if self.snakemakes:
                self.snakemakes.handle(record)
            elif event:
                self._show_event(event, job, record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """End the view and the file. Snakemake calls this more than once."""
        if not self.stopped.is_set():
            self.stopped.set()
            if self.file:
                for thread in self.threads:
                    thread.join()
                ended = {"time": time.time(), "event": "ended"}
                self.run.feed(ended)
                self._write(ended)
                with suppress(OSError):
                    self.file.close()
            self.display.close()
            if self.file and not self.snakemakes:
                for line in summary(self.run):
                    self._show(line, unless="PROGRESS")
        super().close()

    def _show_event(self, event: dict, job, record: logging.LogRecord) -> None:
        settings = self.common_settings
        match event["event"]:
            case "message":
                self._show(event["message"], _style(record))
            case "job_info" if settings.dryrun:
                self.reasons[event["rule_name"]].update(short_reasons(event["reason"]))
            case "run_info" if settings.dryrun:
                # Comes before the jobs and after them; only before them with --quiet.
                if self.reasons or self.quiet == {"RULES", "PROGRESS"}:
                    for line in planned_table(event["stats"], self.reasons):
                        self._show(line)
            case "run_info":
                self._show(f"{self.run.total} steps to run", unless="PROGRESS")
            case "shellcmd" if settings.printshellcmds:
                self._show(event["shellcmd"] or event["cmd"], unless="RULES")
            case "job_finished" if job and (job.outputs or job.logs):  # without both: a list of targets
                self._show(ended_line(self.run, job), unless="RULES")
            case "job_error" if job:
                self._show(ended_line(self.run, job), "red")
                if settings.show_failed_logs:
                    self._show(self.format(record))

    def _show(self, text: str, style: str = "", unless: str = "ALL") -> None:
        """Show `text`, unless --quiet hides such lines: `unless` or all, but never those of a dry run."""
        if self.common_settings.dryrun or not self.quiet & {unless, "ALL"}:
            self.display.show(text, style)

    def _write(self, event: dict) -> None:
        """Write `event` to the file. If the disk is full, the run goes on: only `synaug watch` reads the file."""
        self.events.append(event)
        try:
            self._write_events(open_file=event["event"] == "run_info" and not self.file)  # from here on jobs are run
        except OSError as error:
            if not self.incomplete:
                problem = f"{EVENTS_FOLDER}: cannot be written ({error.strerror})"
                self._show(f"synaug: warning: {problem}; `synaug watch` cannot show all of this run", "yellow")
            self.incomplete = True

    def _write_events(self, open_file: bool) -> None:
        if open_file:
            folder = Path.cwd() / EVENTS_FOLDER
            folder.mkdir(parents=True, exist_ok=True)
            name = datetime.now().isoformat().replace(":", "")  # as Snakemake names its logs
            self.file = (folder / f"{name}{EVENTS_SUFFIX}").open("x", buffering=1)
            for thread in self.threads:
                thread.start()
        if self.file:
            waiting, self.events = self.events, []
            for event in waiting:
                print(json.dumps(event, default=str), file=self.file)

    def _keep_shown(self) -> None:
        """Refresh the view. If that fails once, such as for a log that was just deleted, the next time may not."""
        if self.snakemakes or self.quiet & {"PROGRESS", "ALL"}:
            return
        while not self.stopped.is_set():
            with self.guard, suppress(Exception):
                self.display.refresh(self.run)
            self.stopped.wait(REFRESH_S)

    def _keep_alive(self) -> None:
        """Set the time of the file, by which others know that this run goes on."""
        while not self.stopped.wait(HEARTBEAT_S):
            with suppress(OSError):
                os.utime(self.file.fileno())


def file_server_ahead_s(file: TextIO) -> float:
    """By how many seconds the clock that dates `file` is ahead of this machine's; less than 0: behind. Dates it anew.

    Raises OSError.
    """
    os.utime(file.fileno())  # without a time: the file server sets its own
    return os.fstat(file.fileno()).st_mtime - time.time()


def as_event(record: logging.LogRecord) -> dict | None:
    """A record of Snakemake as it goes into the file of events; None if it says nothing new."""
    kind = getattr(record, "event", None)
    event = {"time": record.created, "event": str(kind)}
    if kind in (None, LogEvent.ERROR):
        text = record.getMessage()
        if record.levelno < logging.INFO or text.startswith(_NOISE) or _NOISE_PATTERN.match(text):
            return None
        return event | {"event": "message", "level": record.levelname.lower(), "message": text}
    if kind not in _FIELDS:
        return None
    event |= {name: getattr(record, name, None) for name in _FIELDS[kind]}
    if kind == LogEvent.SHELLCMD and not (event["shellcmd"] or event["cmd"]):
        return None
    if kind == LogEvent.JOB_INFO:
        event["resources"] = {name: value for name, value in event["resources"].items() if not name.startswith("_")}
    if kind == LogEvent.JOB_ERROR:
        event["error"] = (
            error_line(map(Path, event["log"]))
            or event["rule_msg"]  # of an executor: a cluster's state of the job
            or (_NO_REASON_SHARED if getattr(record, "indent", False) else _NO_REASON)
        )
    return event


def short_reasons(reason: str) -> list[str]:
    """Why Snakemake runs a job, in short: `reason` without its lists of files."""
    shorts = [short for start, short in _REASONS.items() if re.search(rf"(?:^|; ){start}", reason)]
    if params := re.search(r"(?:^|; )Params have changed.*?before: (.*) now: (.*?)(?:; Software|$)", reason, re.DOTALL):
        before_and_now = "".join(params.groups()).replace("<nothing exclusive>", "")
        for pattern, short in _HASHES.items():
            before_and_now, count = re.subn(pattern, "", before_and_now)
            shorts += [short] if count else []
        if before_and_now.strip(", "):
            shorts.append("settings changed")
    return shorts or [reason[:60]]


def _style(record: logging.LogRecord) -> str:
    return "red" if record.levelno >= logging.ERROR else "yellow" if record.levelno >= logging.WARNING else ""


def _snakemakes_handler(settings, stream: TextIO) -> logging.Handler:
    """What Snakemake would use without a plugin."""
    from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter

    return ColorizingTextHandler(
        settings.nocolor,
        stream,
        DefaultFormatter(settings.quiet, settings.show_failed_logs),
        DefaultFilter(settings.quiet, settings.debug_dag, settings.verbose, settings.dryrun, settings.printshellcmds),
    )
