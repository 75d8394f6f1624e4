"""Deep feature re-weighting (DFR, Kirichenko et al. 2023): the last layer by sparse logistic regression."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from synaug.config import Stage2
from synaug.networks.classifier import Classifier
from synaug.training.data import TrainingSet
from synaug.training.sampling import choose_few


@torch.no_grad()
def sparse_head(model: Classifier, data: TrainingSet, settings: Stage2, seed: int) -> Classifier:
    """`model` with a new last layer: L1-penalised logistic regressions on its features, averaged over draws.

    Each of `settings.draws` takes as many real images of every class, or class in a group, as images_per_class says
    (null: as many as the smallest has), without augmentation; features are standardised by those of all `data`.
    Raises UserError if a class has fewer images than are asked for.
    """
    rng = np.random.default_rng(seed)
    cells, names = data.cells_or_classes(model.card["classes"])
    batches = torch.arange(len(data)).split(500)
    features = np.concatenate([model.features(data.images[some]).float().cpu().numpy() for some in batches])
    labels = data.labels.cpu().numpy()
    scaler = StandardScaler().fit(features)
    scaled, weight, bias = scaler.transform(features), 0, 0
    for _ in range(settings.draws):
        chosen = choose_few(cells, names, settings.images_per_class, rng)
        # saga: with more than two classes one softmax over all. It draws its steps from `random_state`.
        fit = LogisticRegression(
            l1_ratio=1.0, C=settings.inverse_l1, solver="saga", tol=1e-3, max_iter=5000, random_state=0
        )
        fit.fit(scaled[chosen], labels[chosen])
        coefficients, intercepts = fit.coef_, fit.intercept_
        if len(coefficients) == 1:  # two classes: one row for both
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        weight = weight + coefficients / settings.draws
        bias = bias + intercepts / settings.draws
    weight = weight / scaler.scale_
    model.head.weight.copy_(torch.from_numpy(weight))
    model.head.bias.copy_(torch.from_numpy(bias - weight @ scaler.mean_))
    return model
