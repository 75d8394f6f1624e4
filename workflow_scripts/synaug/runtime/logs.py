"""Log files of jobs, and the one-line errors in them."""

import io
import logging
import os
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from synaug.runtime.errors import ERROR_PREFIX, one_line


class _Log(io.TextIOWrapper):
    """The log file of a job. A line that cannot be written is left out: for a full disk, no finished work is lost."""

    incomplete = False

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            self.incomplete = True
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self.incomplete = True

    def close(self) -> None:
        with suppress(OSError):
            super().close()


def _open_log(path: Path) -> _Log:
    """A new log file at `path`; ends the process with one line on the terminal if there can be none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _Log(path.open("wb"), line_buffering=True)
    except OSError as error:
        print(f"{ERROR_PREFIX}{path}: cannot be written ({error.strerror})", file=sys.__stderr__, flush=True)
        os._exit(1)


def start_logging(stream: TextIO, level: int = logging.INFO) -> None:
    """Write what a job logs to `stream`, if it has this level or a higher one."""
    logging.basicConfig(level=level, stream=stream, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)


@contextmanager
def job_log(path: str | os.PathLike) -> Generator[None]:
    """Run a rule's script with all its output in the log file at `path`; end the process with status 1 if it fails.

    Everything logged, printed or warned goes to the log. After an exception the log ends with the traceback and, as its
    last line, the error on one line. The terminal shows no traceback.
    """
    path = Path(path)
    with _open_log(path) as log:
        sys.stdout = sys.stderr = log
        start_logging(log)
        try:
            yield
        except Exception as error:
            traceback.print_exc(file=log)
            print(ERROR_PREFIX + one_line(error), file=log)
            log.flush()
            if log.incomplete:  # the line may not be in it
                print(ERROR_PREFIX + one_line(error), file=sys.__stderr__, flush=True)
            # Not sys.exit: Snakemake prints an exception that leaves the script, with its traceback.
            os._exit(1)
        except KeyboardInterrupt:  # Ctrl-C reaches every job
            print("interrupted", file=log)
            log.flush()
            os._exit(130)
        finally:
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


def last_errors(folder: str | os.PathLike, since: float) -> list[str]:
    """The last line of every log below `folder` that ends with an error, followed by the path of the log.

    since: seconds since the epoch; older logs are ignored.
    """
    errors = []
    for log in sorted(Path(folder).rglob("*.log")):
        if log.stat().st_mtime >= since:
            last_line = log.read_text(errors="replace").rstrip().rsplit("\n", 1)[-1]
            if last_line.startswith(ERROR_PREFIX):
                errors.append(f"{last_line}  (log: {log})")
    return errors
