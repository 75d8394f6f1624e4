"""Random predictions, shared by the tests of this folder."""

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="session")
def random_predictions():
    """A function: seed to rows of the manifest `predictions`, for the same 600 images of 7 classes."""

    def random_predictions(seed: int) -> pd.DataFrame:
        labels = np.sort(np.random.default_rng(0).integers(7, size=600))
        logits = np.random.default_rng(seed).normal(size=(600, 7)) + 2.0 * np.eye(7)[labels]
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return pd.DataFrame(
            {
                "image_id": [f"{i:04}" for i in range(600)],
                "label": labels,
                "label_name": [f"class {label}" for label in labels],
                "predicted": probabilities.argmax(1),
                "probabilities": list(probabilities),
            }
        )

    return random_predictions
