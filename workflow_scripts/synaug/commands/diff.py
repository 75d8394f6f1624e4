"""x."""


def diff() -> None:
    """X."""
