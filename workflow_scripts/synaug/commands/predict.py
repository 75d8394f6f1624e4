"""x."""


def predict() -> None:
    """X."""
