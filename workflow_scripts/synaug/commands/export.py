"""x."""


def export() -> None:
    """X."""
