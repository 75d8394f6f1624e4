"""x."""


def prune() -> None:
    """X."""
