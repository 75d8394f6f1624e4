"""Stage 2: re-train or re-scale the last layer on a few real images."""

import copy

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from synaug.config import Stage1, Stage2
from synaug.networks.arithmetic import gpu_arithmetic
from synaug.networks.classifier import Classifier
from synaug.training.data import TrainingSet
from synaug.training.dfr import fit_dfr_head
from synaug.training.loop import EMPTY_HISTORY, training_loop
from synaug.training.losses import MIN_PRIOR, class_weights
from synaug.training.optimizer import make_optimizer
from synaug.training.sampling import image_probabilities
from synaug.training.transfer import to_device


def finetune_stage2(
    model: Classifier,
    data: TrainingSet,
    settings: Stage2,
    stage1_settings: Stage1,
    seed: int,
    stage1_mass: np.ndarray,
) -> tuple[Classifier, pd.DataFrame]:
    """A new network with another last layer, and rows of the manifest `history`.

    data: real images only (synthetic ones raise ValueError). Everything before the last layer stays as it is, including
    the statistics of batch normalisation. stage1_settings: their augmentation is used here too, and how GPUs compute
    (`precision` and `deterministic`). stage1_mass: label mass of each class in the last phase of stage 1, float, C.
    Raises UserError if a class has fewer images than `settings.images_per_class`.
    """
    if data.synthetic.any():
        raise ValueError("stage 2 takes real images only")
    model = copy.deepcopy(model).to(data.images.device).eval()
    if settings.method == "tau_norm":
        tau_normalise(model.head, settings.tau)
        return model, EMPTY_HISTORY
    if settings.method == "logit_adjustment":
        subtract_log_prior(model.head, settings.tau, stage1_mass)
        return model, EMPTY_HISTORY
    with gpu_arithmetic(stage1_settings.precision, fixed_shapes=True, deterministic=stage1_settings.deterministic):
        if settings.method == "dfr":
            fit_dfr_head(model, data, settings, seed)
            return model, EMPTY_HISTORY
        return model, train_head(model, data, settings, stage1_settings, seed)


@torch.no_grad()
def tau_normalise(head: nn.Linear, tau: float) -> None:
    """Tau-normalisation (Kang et al. 2020): `w_j / |w_j|^tau`, and no bias."""
    head.weight.div_(head.weight.norm(dim=1, keepdim=True) ** tau)
    head.bias.zero_()


@torch.no_grad()
def subtract_log_prior(head: nn.Linear, tau: float, label_mass: np.ndarray) -> None:
    """Post-hoc logit adjustment (Menon et al. 2021, eq. 9): tau log pi_j is subtracted from the bias.

    pi_j: share of class j in the `label_mass` of the training (float, C); among the images, if all are drawn equally
    often, weigh the same and are not mixed.
    """
    prior = torch.from_numpy(label_mass / label_mass.sum()).to(head.bias).clamp_min(MIN_PRIOR)
    head.bias.sub_(tau * prior.log())


def train_head(
    model: Classifier, data: TrainingSet, settings: Stage2, stage1_settings: Stage1, seed: int
) -> pd.DataFrame:
    """Train the last layer (`retrain`) or one factor per class on its logits (`scale`, LWS of Kang et al. 2020).

    The model is changed in place. Returns rows of the manifest `history`.
    """
    classes, head = model.config["classes"], model.head
    rng = np.random.default_rng(seed)
    data = data.subset(data.few_of_every_class(classes, settings.images_per_class, rng))
    torch.manual_seed(seed)
    if settings.start == "fresh":
        head.reset_parameters()
    model.requires_grad_(False)
    scales = torch.ones(len(classes), device=data.images.device)
    trained = [scales] if settings.method == "scale" else list(head.parameters())
    for parameter in trained:
        parameter.requires_grad_(True)
    weight_of_class = class_weights(settings.class_weights, _label_mass(data, settings, len(classes)))

    def compute_loss(positions: torch.Tensor, step: int) -> torch.Tensor:
        with torch.no_grad():
            features = model.features(data.augmented(positions, stage1_settings, rng))
        logits, labels = head(features), data.labels[to_device(positions, data.labels.device)]
        if settings.method == "scale":
            logits = logits * scales
        weights = weight_of_class[labels]
        return (weights * F.cross_entropy(logits, labels, reduction="none")).sum() / weights.sum()

    @torch.no_grad()
    def limit_norms() -> None:
        norms = head.weight.norm(dim=1, keepdim=True)
        head.weight.mul_((settings.max_norm / norms).clamp_max(1))

    history = training_loop(
        model,
        make_optimizer([{"params": trained}], "sgd", settings.learning_rate, settings.weight_decay),
        data.make_sampler(settings, stage1_settings.crop_area, seed, rng),
        compute_loss,
        rng,
        steps=settings.steps,
        after_step=limit_norms if settings.max_norm else None,
    )
    if settings.method == "scale":
        with torch.no_grad():
            head.weight.mul_(scales[:, None])
            head.bias.mul_(scales)
    model.requires_grad_(True)
    return history


def _label_mass(data: TrainingSet, settings: Stage2, classes: int) -> torch.Tensor:
    """How often images of each class are drawn, if as many are drawn as there are: float32, C."""
    probabilities = image_probabilities(data.strata(settings.sampling), settings.sampling)
    draws = None if probabilities is None else probabilities * len(data)
    # On the CPU: a GPU has no deterministic algorithm for it.
    return torch.bincount(data.labels.cpu(), draws, classes).float().to(data.labels.device)
