"""Label mass: how much of the loss falls on each class, given how images are drawn, weighted and mixed.

A class with a tenth of the images has a tenth of the label mass only if all images are drawn equally often, weigh the
same and are not mixed. The prior of a class in a loss, and its weight, depend on its mass.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from synaug.config import Stage1
from synaug.training.data import TrainingSet, training_set
from synaug.training.losses import LossPerImage, class_weights, make_loss
from synaug.training.mixing import mean_partner_share
from synaug.training.sampling import image_probabilities


class Phase(NamedTuple):
    """Steps of stage 1 that draw from the same images and weight them in the same way.

    first_step: number of steps before the phase. drawn: the images that batches are drawn from, bool, N.
    weight_of_class: float32, C. label_mass: with these weights, as a number of images of weight 1, float32, C.
    """

    first_step: int
    drawn: torch.Tensor
    loss_per_image: LossPerImage
    weight_of_class: torch.Tensor
    label_mass: torch.Tensor


def without_impossible_phase(data: TrainingSet, settings: Stage1) -> Stage1:
    """`settings` without `synthetic_first` if there are fewer than two synthetic or two real images for each device.

    Batch normalisation needs two.
    """
    synthetic = int(data.synthetic.sum())
    possible = min(synthetic, len(data) - synthetic) >= 2 * settings.devices
    return settings if possible else settings.model_copy(update={"synthetic_first": 0.0})


def training_phases(data: TrainingSet, settings: Stage1, classes: int) -> list[Phase]:
    """The phases of stage 1, in order. `synthetic_first` and `deferred` each start a new one, if a step is left for it.

    Without enough synthetic or real images there is no phase of them.
    """
    settings = without_impossible_phase(data, settings)
    synthetic = data.synthetic.cpu().numpy()
    weights = image_weights(data, settings)
    real_start = round(settings.synthetic_first * settings.steps)
    weights_start = math.ceil(settings.deferred * settings.steps)
    phases = []
    for first_step in sorted({0, real_start, weights_start} - {settings.steps}):
        drawn = np.ones(len(data), bool)
        if settings.synthetic_first:
            drawn = synthetic if first_step < real_start else ~synthetic
        mass = torch.from_numpy(_expected_mass(data, weights, drawn, settings, classes)).float().to(weights.device)
        weight_of_class = class_weights(settings.class_weights if first_step >= weights_start else "none", mass)
        weighted_mass = mass * weight_of_class
        # The margins of LDAM come from a bound in the number of images, and not from a prior.
        # On the CPU: a GPU has no deterministic algorithm.
        counts = torch.bincount(data.labels.cpu(), weights.cpu() * torch.from_numpy(drawn), classes).to(weights)
        loss = make_loss(settings.loss, counts if settings.loss.name == "ldam" else weighted_mass)
        phases.append(
            Phase(first_step, torch.from_numpy(drawn).to(weights.device), loss, weight_of_class, weighted_mass)
        )
    return phases


def last_label_mass(rows: pd.DataFrame, settings: Stage1, classes: int) -> np.ndarray:
    """The label mass in the last phase of a stage 1 on `rows` of the manifest `balanced`: float32, C."""
    data = training_set(torch.empty(0), rows, "cpu")  # what the mass depends on, without the images
    return training_phases(data, settings, classes)[-1].label_mass.numpy()


def phase_at(phases: list[Phase], step: int) -> Phase:
    """The phase of a step. step: number of steps before it."""
    return next(phase for phase in reversed(phases) if phase.first_step <= step)


def image_weights(data: TrainingSet, settings: Stage1) -> torch.Tensor:
    """Weight of each image in the loss, without class weights: float32, N."""
    return data.weights * torch.where(data.synthetic, settings.synthetic_weight, 1.0)


def _expected_mass(
    data: TrainingSet, weights: torch.Tensor, drawn: np.ndarray, settings: Stage1, classes: int
) -> np.ndarray:
    """Label mass of each class without class weights, if as many images are drawn as there are: float64, C.

    weights: of `image_weights`. drawn: images that batches are drawn from, bool, N.
    """
    labels, synthetic, weights = (values.cpu().numpy()[drawn] for values in (data.labels, data.synthetic, weights))
    probabilities = image_probabilities(data.strata(settings.sampling)[drawn], settings.sampling)
    draws = np.ones(len(labels)) if probabilities is None else probabilities.numpy() * len(labels)
    methods = [method for method in (settings.mixup, settings.cutmix) if method]
    share_of_draws = draws if not methods else np.zeros(len(labels))
    for method in methods:  # with both, each mixes half of the batches
        partner_share = mean_partner_share(method)
        mixed = (1 - partner_share) * draws + partner_share * _partner_draws(draws, synthetic, method.pairing)
        share_of_draws = share_of_draws + mixed / len(methods)
    return np.bincount(labels, weights * share_of_draws, classes)


def _partner_draws(draws: np.ndarray, synthetic: np.ndarray, pairing: str) -> np.ndarray:
    """How often each image is a partner, if the images are drawn `draws` times: float, N.

    With pairing real_synthetic, a partner is any image of the other domain in the batch (see `draw_partners`), so the
    images of a domain are partners as often as images of the other domain are drawn. The batches that happen to have
    only one domain are neglected.
    """
    synthetic_draws, real_draws = draws[synthetic].sum(), draws[~synthetic].sum()
    if pairing == "random" or not synthetic_draws or not real_draws:
        return draws
    return draws * np.where(synthetic, real_draws / synthetic_draws, synthetic_draws / real_draws)
