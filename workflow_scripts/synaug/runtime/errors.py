"""Errors that a user can correct: one line that says what is wrong, where, and what to do about it."""

import sys
from collections.abc import Callable, Iterator
from functools import wraps

# `onerror` of the Snakefile looks for this prefix in the logs of failed jobs.
ERROR_PREFIX = "synaug: error: "


class UserError(Exception):
    """An error that the user can correct. Its text is one line: `<problem>; <advice>`, or `<problem>` without advice.

    problem: what is wrong, and where (file, row, key, class). advice: what to do about it, if that needs words. It is a
    field of its own so that a caller that knows better can give other advice.
    """

    def __init__(self, problem: str, *, advice: str = ""):
        super().__init__(f"{problem}; {advice}" if advice else problem)
        self.problem, self.advice = problem, advice


def one_line(error: BaseException) -> str:
    """`error` on one line. Other errors than UserError include their type, since their message may say little."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def short_text(error: BaseException) -> str:
    """The message of a library's error on one line, cut to 200 characters, to be quoted in a UserError."""
    return " ".join(str(error).split())[:200]


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """`error`, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def exits_in_one_line(function: Callable) -> Callable:
    """`function` of a rule file: a UserError in it ends the run with its line. Snakemake would print a traceback."""

    @wraps(function)
    def wrapped(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except UserError as error:
            sys.exit(f"{ERROR_PREFIX}{error}")

    return wrapped
