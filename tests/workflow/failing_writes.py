"""Run a job of the workflow again and again: each time another of its writes fails. As in SQLite's tests of I/O errors.

    python failing_writes.py SCRIPT FAULT PLACE...

SCRIPT: of a job, as `snakemake --skip-script-cleanup` leaves it. FAULT: number of the fault of the first write, the
next write has the next fault; or `all`: every write has every fault. PLACE: folders that jobs write to. It is run in
the folder of a finished workflow, and prints a JSON list: a `Case` for every write that failed.

Every write ends in `os.fsync`. There it fails, and real writes of all libraries fail where the file is /dev/full.
"""

import errno
import hashlib
import json
import os
import re
import runpy
import shutil
import signal
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

FAULTS = ("disk full", "input/output error", "killed")
# What jobs keep for themselves, in results/<experiment>/ and results/: they make it again, and no rule reads it.
OWN = ("pixels", "work", "checkpoints", "costs", ".training", "adaptation", ".index", ".locks", "benchmarks")
_TEMPORARY = re.compile(r"\.([^/]+)\.[^/.]*-\d+\.tmp(?=/|$)")


@dataclass
class Case:
    """What a write that failed did. write: the file. status: of the job; message: its last error or warning.

    changed: finished files with other bytes after the failure, or after the next run. left: temporary files after the
    next run. text: what the terminal showed.
    """

    write: str
    fault: str
    status: int
    message: str
    next_status: int
    changed: list[str]
    left: list[str]
    text: str


def kind(file: str) -> str:
    """Files of one kind are written by the same code: those with one ending in one folder. The rest is named."""
    path = Path(_TEMPORARY.sub(r"\1", os.path.relpath(file)))
    folder = path.parent.parent if path.parent.name in ("unet", "vae", "text_encoder", "tokenizer") else path.parent
    return str(path) if path.suffix == ".bin" else f"{folder}/*{path.suffix}"


class Writes:
    """The writes of this process: they are listed in the file `listed`, and the first one of `target` fails."""

    def __init__(self, listed: Path, target: str | None = None, fault: str | None = None):
        from synaug.runtime import files

        self.listed, self.target, self.fault = listed, target, fault
        self.fsync, self.temporary_path = os.fsync, files._temporary_path
        os.fsync, files._temporary_path = self.end_of_write, self.begin_of_write

    def begin_of_write(self, path: Path) -> Path:
        temporary = self.temporary_path(path)
        if self.fault == "disk full" and kind(str(path)) == self.target:
            self.target = None
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.symlink_to("/dev/full")
        return temporary

    def end_of_write(self, descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        with self.listed.open("a") as listed:
            print(kind(path), file=listed)
        if kind(path) == self.target:
            self.target = None
            if self.fault == "killed":
                os.truncate(path, os.path.getsize(path) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            number = errno.EIO if self.fault == "input/output error" else errno.ENOSPC
            raise OSError(number, os.strerror(number))
        self.fsync(descriptor)


class Job:
    """A job, and the files that it and other jobs have written."""

    def __init__(self, script: str, places: list[str]):
        # As another name than __main__ the script only imports what it needs, once for all forks.
        job = runpy.run_path(script, run_name="imported")["snakemake"]
        self.script, self.places = script, places
        self.outputs, self.log = [Path(path) for path in job.output], Path(job.log[0])
        self.listed, self.shown = Path(".writes").absolute(), Path(".terminal").absolute()

    def cases(self, fault: str) -> list[Case]:
        """The cases of every kind of write. fault: see the top of the file."""
        self.forget_outputs(everything=True)
        self.listed.unlink(missing_ok=True)
        if self.run() != 0:
            raise RuntimeError(f"{self.script}: {self.last_line()} {self.shown.read_text()}")
        writes = list(dict.fromkeys(self.listed.read_text().splitlines()))
        self.finished = self.contents()
        if fault == "all":
            return [self.fail_once(write, each) for write in writes for each in FAULTS]
        return [self.fail_once(write, FAULTS[number % len(FAULTS)]) for number, write in enumerate(writes, int(fault))]

    def fail_once(self, write: str, fault: str) -> Case:
        """Run the job from its beginning and let `write` fail, then run it again."""
        self.forget_outputs(everything=True)
        status = self.run(write, fault)
        message, text = self.last_line(), self.shown.read_text()
        changed = [path for path, digest in self.contents().items() if self.finished.get(path) != digest]
        if status == 0:  # the job goes on, with a warning
            changed += self.changed()
        else:  # what Snakemake does after a failure
            self.forget_outputs()
        next_status = self.run()
        text += self.shown.read_text()
        return Case(write, fault, status, message, next_status, changed + self.changed(), self.temporary_files(), text)

    def run(self, write: str | None = None, fault: str | None = None) -> int:
        """The exit status of the job, or minus the number of the signal that ended it. A fault: `write` fails."""
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        try:
            with self.shown.open("w") as shown:
                os.dup2(shown.fileno(), 1)
                os.dup2(shown.fileno(), 2)
            from synaug.training import loop

            loop.LOG_EVERY, loop.CHECKPOINT_EVERY = 2, 0  # a checkpoint is saved although the training is short
            Writes(self.listed, write, fault)
            runpy.run_path(self.script, run_name="__main__")
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(70)

    def forget_outputs(self, everything: bool = False) -> None:
        """Delete the outputs. everything: also what jobs keep for themselves, and so the traces of earlier runs."""
        for path in self.outputs:
            path.unlink(missing_ok=True)
        for name in OWN if everything else ():
            for folder in [*Path("results").glob(f"*/{name}"), Path("results", name)]:
                shutil.rmtree(folder, ignore_errors=True)

    def contents(self) -> dict[str, str]:
        """The hash of every finished file."""
        files = [file for place in self.places for file in [Path(place), *Path(place).rglob("*")] if file.is_file()]
        return {
            str(file): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
            if not set(file.parts) & set(OWN) and file.suffix != ".tmp" and ".tmp/" not in str(file)
        }

    def changed(self) -> list[str]:
        now = self.contents()
        return sorted(path for path in now.keys() | self.finished.keys() if now.get(path) != self.finished.get(path))

    def temporary_files(self) -> list[str]:
        return [str(file) for file in Path(".").rglob("*.tmp") if ".snakemake" not in file.parts]

    def last_line(self) -> str:
        """The last line of the log that is an error, or else a warning about a write."""
        lines = self.log.read_text().splitlines()
        warnings = [line for line in lines if re.search(r"cannot be saved|is not recorded|is not updated", line)]
        return lines[-1] if lines and lines[-1].startswith("synaug: error: ") else (warnings or [""])[-1]


if __name__ == "__main__":
    print(json.dumps([asdict(case) for case in Job(sys.argv[1], sys.argv[3:]).cases(sys.argv[2])]))
