"""Deep feature re-weighting (DFR, Kirichenko et al. 2023): the last layer by sparse logistic regression."""

import numpy as np
import torch

from synaug.config import Stage2
from synaug.networks.classifier import Classifier, images_at_once
from synaug.training.data import TrainingSet


@torch.no_grad()
def fit_dfr_head(model: Classifier, data: TrainingSet, settings: Stage2, seed: int) -> None:
    """Replace the last layer of `model`: the mean of L1-penalised logistic regressions on its features.

    There are `settings.draws` regressions, each on a new draw of real images (see `TrainingSet.few_of_every_class`),
    without augmentation. The features are standardised by mean and deviation of all of `data`.
    Raises UserError if a class has fewer images than `settings.images_per_class`.
    """
    # Imported here because every job that fine-tunes imports this module, and sklearn takes a second.
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(seed)
    batches = torch.arange(len(data)).split(images_at_once(data.images.shape))
    features = np.concatenate([model.features(data.images[batch]).float().cpu().numpy() for batch in batches])
    labels = data.labels.cpu().numpy()
    scaler = StandardScaler().fit(features)
    features = scaler.transform(features)
    weight, bias = 0, 0  # of the standardised features: C x D, C
    for _ in range(settings.draws):
        drawn = data.few_of_every_class(model.config["classes"], settings.images_per_class, rng)
        # saga: with more than two classes it fits one softmax over all. Its own steps are drawn from `random_state`.
        regression = LogisticRegression(
            l1_ratio=1.0, C=settings.inverse_l1, solver="saga", tol=1e-3, max_iter=5000, random_state=0
        )
        regression.fit(features[drawn], labels[drawn])
        coefficients, intercepts = regression.coef_, regression.intercept_
        if len(coefficients) == 1:  # with two classes there is one row for both
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        weight = weight + coefficients / settings.draws
        bias = bias + intercepts / settings.draws
    # w (x - mean) / scale + b = (w / scale) x + (b - (w / scale) mean)
    weight = weight / scaler.scale_
    model.head.weight.copy_(torch.from_numpy(weight))
    model.head.bias.copy_(torch.from_numpy(bias - weight @ scaler.mean_))
