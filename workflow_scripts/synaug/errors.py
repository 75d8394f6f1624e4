"""User errors, and what a rule's script does with them.

A user error is one line: what is wrong, where, and what to do about it.
"""

import logging
import os
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

# What `onerror` of the Snakefile looks for in the logs of failed jobs.
ERROR_PREFIX = "synaug: error: "


class UserError(Exception):
    """Something the user can put right. The message is one line: what, where (file, row, key, class), what to do."""


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


def one_line(error: BaseException) -> str:
    """`error` as one line; unless it is the user's with its type, since the message alone may say little."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def last_errors(folder: str | os.PathLike, since: float) -> list[str]:
    """The error lines of all logs below `folder` that were written after `since` (seconds since the epoch)."""
    lines = []
    for log in sorted(Path(folder).rglob("*.log")):
        if log.stat().st_mtime >= since:
            last = log.read_text(errors="replace").rstrip().rsplit("\n", 1)[-1]
            if last.startswith(ERROR_PREFIX):
                lines.append(f"{last}  (log: {log})")
    return lines
