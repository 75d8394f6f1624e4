"""Log files of jobs, and the one-line errors in them."""

import logging
import os
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from synaug.runtime.errors import ERROR_PREFIX, one_line


@contextmanager
def job_log(path: str | os.PathLike) -> Generator[None]:
    """Run a rule's script with its messages going to the log file at `path`, and end it well when it fails.

    Everything logged, printed or warned goes to the log. On an exception the log gets the traceback and, as its
    last line, the error as one line; the process then exits with status 1, so that the terminal shows no traceback.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", buffering=1) as log:
        sys.stdout = sys.stderr = log
        logging.basicConfig(
            level=logging.INFO, stream=log, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
        )
        logging.getLogger("httpx").setLevel(logging.WARNING)
        try:
            yield
        except Exception as error:
            traceback.print_exc(file=log)
            print(ERROR_PREFIX + one_line(error), file=log)
            log.flush()
            # Not sys.exit: an exception that leaves the script would be printed by Snakemake, traceback and all.
            os._exit(1)
        except KeyboardInterrupt:  # Ctrl-C reaches every job
            print("interrupted", file=log)
            log.flush()
            os._exit(130)
        finally:
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


def last_errors(folder: str | os.PathLike, since: float) -> list[str]:
    """The error lines of all logs below `folder` that were written after `since` (seconds since the epoch)."""
    lines = []
    for log in sorted(Path(folder).rglob("*.log")):
        if log.stat().st_mtime >= since:
            last = log.read_text(errors="replace").rstrip().rsplit("\n", 1)[-1]
            if last.startswith(ERROR_PREFIX):
                lines.append(f"{last}  (log: {log})")
    return lines
