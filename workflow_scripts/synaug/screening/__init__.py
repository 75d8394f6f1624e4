"""Step 3: what the synthetic images are worth. Scores first, then the verdict, then the quality of what was kept.

Only `judge` is imported here: whoever wants the verdicts need not have torch.
"""

from synaug.screening.filters import screen_synthetic

__all__ = ["screen_synthetic"]
