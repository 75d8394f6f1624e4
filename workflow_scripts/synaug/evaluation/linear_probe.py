"""Linear probe: how well a linear classifier predicts a property of images from the features of a network."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5


def probe_correct(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """1.0 where a logistic regression on `features` predicts the target, else 0.0: float64, N.

    Predictions are cross-validated: an image is predicted by a classifier that was not fitted to it. features: N x D.
    targets: int, N, each value at least FOLDS times.
    """
    predicted = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        features,
        targets,
        cv=StratifiedKFold(FOLDS, shuffle=True, random_state=0),
    )
    return (predicted == targets).astype(float)
