"""How far a run is, from what it leaves on disk: shards, finished batches, and the last lines of the logs.

Nothing is asked of Snakemake or of a scheduler, so it can be looked at from any machine that sees the folder.
"""

import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from synaug.manifests import read_table
from synaug.runtime.errors import UserError
from synaug.runtime.logs import last_errors

# Log lines with `step 400/600, ..., 12 s left` (networks) or `denoiser: step 400 of 600, ..., 12 s left` (a generator).
_STEP = re.compile(r"(?:(\w+): )?step (\d+)(?:/| of )(\d+)\b.*?(?:, (\d+) s left)?$")
_REMEMBERED_S = 300  # the speed is that of the last minutes: the first batches of a model are slow
_SILENT_S = 120  # a log that nothing was written to for so long is that of a job that was stopped


@dataclass
class Line:
    """One thing that is being made. done, total: in `unit`; left_s: seconds, None if that cannot be said yet."""

    what: str
    done: int
    total: int
    unit: str
    left_s: float | None = None
    detail: str = ""


class Watch:
    """Looks at one experiment again and again."""

    def __init__(self, experiment: Path) -> None:
        """experiment: results/<experiment>; its logs are in logs/<experiment> beside results/.

        Raises UserError if there is no such folder.
        """
        self.experiment, self.logs = experiment, experiment.parents[1] / "logs" / experiment.name
        if not experiment.is_dir() and not self.logs.is_dir():
            raise UserError(f"{experiment}: no such folder; name an experiment, results/<experiment>")
        self.started = time.time()
        self.seen: deque[tuple[float, int]] = deque()
        self.planned: dict[str, int] = {}
        self.plan_changed = 0

    def look(self) -> list[Line]:
        """What there is to say now; nothing, as long as only tables are made."""
        return [*self._images(), *self._trainings()]

    def finished(self) -> bool:
        """Whether the last thing that a run makes was made since the watch began."""
        report = self.experiment / "report.html"
        return report.exists() and report.stat().st_mtime >= self.started

    def errors(self) -> list[str]:
        """Error lines of jobs that failed since the watch began."""
        return last_errors(self.logs, self.started)

    def running(self) -> list[str]:
        """Names of logs that were written to just now, without those that `look` speaks of."""
        since = time.time() - _SILENT_S
        logs = (log for log in self.logs.glob("*.log") if log.stat().st_mtime > since)
        return sorted(log.stem for log in logs if not _last_step(log) and log.stem not in ("prune", "plan"))

    def _images(self) -> Iterator[Line]:
        plan = self.experiment / "plan.parquet"
        if not plan.exists():
            return
        if plan.stat().st_mtime_ns != self.plan_changed:
            counts = read_table("plan", plan, ["shard"]).column("shard").value_counts()
            self.planned = {one["values"]: one["counts"] for one in counts.to_pylist()}
            self.plan_changed = plan.stat().st_mtime_ns
            self.seen.clear()
        there = {path.stem for path in (self.experiment / "shards").glob("*.parquet")} & self.planned.keys()
        done, total = sum(self.planned[shard] for shard in there), sum(self.planned.values())
        for folder in (self.experiment / "work").glob("*"):
            if folder.name in self.planned and folder.name not in there:
                done += sum(map(_rows, folder.glob("*.parquet")))
        now = time.monotonic()
        self.seen.append((now, done))
        while self.seen[0][0] < now - _REMEMBERED_S:
            self.seen.popleft()
        (then, before), speed = self.seen[0], 0.0
        if now > then:
            speed = (done - before) / (now - then)
        shards = f"{len(there):,} of {len(self.planned):,} shards"
        yield Line(
            "synthetic images",
            done,
            total,
            "images",
            (total - done) / speed if speed > 0 else None,
            f"{shards}, {speed:.1f} images/s" if speed > 0 and done < total else shards,
        )

    def _trainings(self) -> Iterator[Line]:
        """A line for every network or generator that is being trained, and one for the networks that are finished."""
        since, finished = time.time() - _SILENT_S, 0
        for log in sorted(
            [*self.logs.glob("t*/*.log"), *self.logs.glob("finetune/*.log"), *self.logs.glob("train_*.log")]
        ):
            if not (step := _last_step(log)):
                continue
            part, done, total, left = step
            if log.parent != self.logs and done == total:
                finished += 1
            elif log.stat().st_mtime > since and done < total:
                name = log.stem if log.parent == self.logs else f"{log.parent.name} {log.stem}"
                yield Line(f"{name} {part}".strip(), done, total, "steps", left)
        if finished:
            yield Line("networks", finished, finished, "trained")


def _last_step(log: Path) -> tuple[str, int, int, float | None] | None:
    """Part, step, steps, and seconds left by the last line of `log` that speaks of a step; None if none does."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        if found := _STEP.search(line):
            part, done, total, left = found.groups()
            return part or "", int(done), int(total), float(left) if left else None
    return None


def _rows(file: Path) -> int:
    try:
        return pq.read_metadata(file).num_rows
    except Exception:  # moved just now: counted next time
        return 0
