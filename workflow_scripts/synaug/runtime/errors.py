"""User errors: one line that says what is wrong, where, and what to do about it."""

# What `onerror` of the Snakefile looks for in the logs of failed jobs.
ERROR_PREFIX = "synaug: error: "


class UserError(Exception):
    """Something the user can put right. The message is one line: what, where (file, row, key, class), what to do."""


def one_line(error: BaseException) -> str:
    """`error` as one line; unless it is the user's with its type, since the message alone may say little."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
