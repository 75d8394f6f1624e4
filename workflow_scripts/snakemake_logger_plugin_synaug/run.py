"""How far a run of Snakemake is, from its events: what is done, what runs, how long the rest takes, what failed.

Events are dicts, as the logger plugin writes them: one JSON object a line, with `time` (seconds since the epoch) and
`event`, the name that Snakemake gives it, plus `message` for a line of text and `ended` for the end of the run. That of
a job that starts may have `file_server_ahead_s`: by how many seconds the clock that dates the files is ahead.
"""

import os
import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from synaug.runtime.errors import ERROR_PREFIX

# Beside Snakemake's own logs, one file a run: several experiments may be one run, and several runs one experiment.
EVENTS_FOLDER, EVENTS_SUFFIX = Path(".snakemake") / "log", ".events.jsonl"
HEARTBEAT_S = 10.0  # how often the time of the file is set, as long as the run goes on

# Lines of the jobs' logs: `12/30 images, 3.1 images/s, 6 s left`, `denoiser: step 400 of 600, loss 0.2, 12 s left`.
_PROGRESS = re.compile(r"(?:\d\d:\d\d:\d\d )?((?:\w+: )?(?:step )?(\d+)(?:/| of )(\d+)(?: images)?)(, .*)?")
_CTRL_C = "Terminating processes on user request"  # Snakemake's message
_LEFT = re.compile(r", (\d+) s left$")
_TAIL_BYTES = 4096


@dataclass
class Progress:
    """How far a job is, by the last line of its log that says so.

    text: the line, with the time left first and as it is now. left_s: seconds, None if the line names none.
    """

    text: str
    done: int
    total: int
    left_s: float | None


@dataclass(eq=False)  # hashable
class Job:
    """A job that was started; started, ended: seconds since the epoch, error: why it failed."""

    rule: str
    name: str
    logs: list[str]
    outputs: list[str]
    started: float
    ended: float = 0.0
    error: str = ""

    @property
    def seconds(self) -> float:
        """Duration of a job that has ended."""
        return self.ended - self.started


class Run:
    """The state of one run, built up from its events.

    Not safe for threads: a caller that has several holds a lock.
    """

    def __init__(self, folder: Path) -> None:
        """folder: the working directory of the run, to which the paths of logs are relative."""
        self.folder = folder
        self.jobs: dict[int, Job] = {}  # by Snakemake's id; a job that is tried again replaces its first attempt
        self.planned: Counter[str] = Counter()  # jobs by rule, as known at the start
        self.done, self.total = 0, 0
        self.started, self.ended = float("inf"), 0.0
        self.interrupted = False
        self.finished: list[Job] = []
        self.file_server_ahead_s = 0.0  # by how much its clock, which dates the logs, is ahead of the events' clock

    def feed(self, event: dict) -> Job | None:
        """Take one event in; the job that has ended with it, if one has."""
        self.started = min(self.started, event["time"])
        match event["event"]:
            case "run_info":
                self.planned = Counter(event["stats"])
                self.total = self.planned.pop("total", 0)
            case "job_info":
                self.file_server_ahead_s = event.get("file_server_ahead_s", self.file_server_ahead_s)
                name = event["rule_msg"] or job_name(event["rule_name"], event["wildcards"])
                self.jobs[event["jobid"]] = Job(
                    event["rule_name"], name, event["log"], event["output"], started=event["time"]
                )
            case "job_finished":
                return self._end(event["job_id"], event["time"])
            case "job_error":
                return self._end(event["jobid"], event["time"], event["error"])
            case "message":
                self.interrupted |= event["message"].startswith(_CTRL_C)
            case "progress":
                self.done, self.total = event["done"], event["total"]
            case "ended":
                self.ended = event["time"]
        return None

    def _end(self, jobid: int, now: float, error: str = "") -> Job | None:
        job = self.jobs.get(jobid)
        # A job of a group is reported as failed after its own end, if another one of the group fails.
        if job is None or job.ended:
            return None
        job.ended = now
        if error and self.interrupted:  # it did not fail by itself
            return None
        job.error = error
        if not error:
            self.finished.append(job)
            self.done += 1
        return job

    def running(self) -> list[Job]:
        """Jobs that have not ended, in the order in which they started."""
        return [job for job in self.jobs.values() if not job.ended]

    def failed(self) -> list[Job]:
        """Jobs whose last attempt failed."""
        return [job for job in self.jobs.values() if job.error]

    def has_begun(self, job: Job) -> bool:
        """Whether `job` has written to its log; on a cluster jobs wait in a queue before."""
        return any(self._has_written(job, self.folder / log) for log in job.logs)

    def _has_written(self, job: Job, log: Path) -> bool:
        """Whether there is a `log`, and not an earlier run's; file systems round times."""
        try:
            return log.stat().st_mtime >= job.started + self.file_server_ahead_s - 1
        except OSError:
            return False

    def report(self) -> str:
        """Path of the report page that was written last; empty if none was."""
        outputs = (path.removesuffix(" (send to storage)") for job in self.finished for path in job.outputs)
        pages = [path for path in outputs if Path(path).name == "report.html"]
        return pages[-1] if pages else ""

    def progress(self, job: Job) -> Progress | None:
        """How far `job` is by its log; None while the log says nothing of it."""
        for log in job.logs:
            path = self.folder / log
            if self._has_written(job, path) and (progress := _last_progress(path, self.file_server_ahead_s)):
                return progress
        return None

    def seconds_left(self, now: float) -> tuple[float, bool] | None:
        """Seconds until the end, and whether that covers all jobs; None while nothing is known.

        The duration of a rule's jobs is the mean of those that ended, and of running ones whose log says how long they
        will take. Jobs of other rules are left out: the figure is then a lower bound, and the second value False.
        """
        known = defaultdict(list)  # rule -> seconds
        for job in self.finished:
            known[job.rule].append(job.seconds)
        running = self.running()
        left = {}  # running job -> seconds
        for job in running:
            if (progress := self.progress(job)) and progress.left_s is not None:
                left[job] = progress.left_s
                known[job.rule].append(now - job.started + progress.left_s)
        means = {rule: sum(seconds) / len(seconds) for rule, seconds in known.items()}
        for job in running:
            if job not in left and job.rule in means:
                left[job] = max(0.0, means[job.rule] - (now - job.started))
        waiting = self._waiting()
        ahead = sum(left.values()) + sum(means.get(rule, 0.0) * count for rule, count in waiting.items())
        if ahead < 1:
            return None
        busy = sum(job.seconds for job in self.finished) + sum(now - job.started for job in running)
        elapsed = max(1e-3, now - self.started)  # 0 in the first moment, below 0 if the clock was set back
        parallel = max(1.0, len(running), busy / elapsed)
        # The rule `all` makes nothing.
        complete = len(left) == len(running) and set(waiting) <= {*means, "all"}
        return max([ahead / parallel, *left.values()]), complete

    def _waiting(self) -> Counter[str]:
        """Jobs that have not started, by rule; those that a checkpoint added count for the rules that have grown."""
        started = Counter(job.rule for job in self.jobs.values())
        waiting = self.planned - started
        added = self.total - self.planned.total() - (started - self.planned).total()
        if added > 0:
            grown = list(started - self.planned) or [""]
            for i in range(added):
                waiting[grown[i % len(grown)]] += 1
        return waiting


def job_name(rule: str, wildcards: dict) -> str:
    """A job in plain words: its rule, and its wildcards as `recipe real, seed 0`."""
    return ", ".join([rule, *(f"{name} {value}" for name, value in wildcards.items())])


def duration(seconds: float) -> str:
    """`seconds` as people say it. Less than 0 count as 0: clocks of two machines may differ."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 600:
        return f"{seconds // 60} min {seconds % 60} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def error_line(logs: list[Path]) -> str:
    """The error that a rule's script wrote as the last line of its log; empty if there is none."""
    for log in logs:
        lines = _tail(log)
        if lines and lines[-1].startswith(ERROR_PREFIX):
            return lines[-1].removeprefix(ERROR_PREFIX)
    return ""


def _last_progress(log: Path, file_server_ahead_s: float) -> Progress | None:
    for line in reversed(_tail(log)):
        if progress := _PROGRESS.fullmatch(line):
            text, done, total, rest = progress.groups(default="")
            left_s = None
            if left := _LEFT.search(rest):  # when the line was written
                age_s = time.time() + file_server_ahead_s - log.stat().st_mtime
                left_s = max(0.0, float(left[1]) - age_s)
                text, rest = f"{text}, {duration(left_s)} left", rest[: left.start()]
            return Progress(text + rest, int(done), int(total), left_s)
    return None


def _tail(log: Path) -> list[str]:
    """The last lines of `log`, without empty ones."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()]
