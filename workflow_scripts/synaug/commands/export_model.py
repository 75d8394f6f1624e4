"""x."""


def export_model() -> None:
    """X."""
