"""Stage 2: re-train or re-scale the last layer on a few real images."""

import copy

import numpy as np
import pandas as pd
import torch

from synaug.config import Loss, Stage1, Stage2
from synaug.networks.classifier import Classifier
from synaug.training.data import TrainingSet
from synaug.training.dfr import sparse_head
from synaug.training.loop import optimise
from synaug.training.losses import class_weights, make_loss
from synaug.training.sampling import choose_few

NO_STEPS = pd.DataFrame(columns=["step", "epoch", "loss", "learning_rate"], dtype=float)


def finetune_stage2(
    model: Classifier, data: TrainingSet, settings: Stage2, training: Stage1, seed: int, counts: np.ndarray
) -> tuple[Classifier, pd.DataFrame]:
    """Re-train or re-scale the last layer; returns a new network and rows of the manifest `history`.

    data: real images only (others raise ValueError). Everything before the last layer stays as it is, the statistics
    of batch normalisation too. training: the stage 1 before it, for its augmentation. counts: images per class that it
    was trained on, int, C.
    Raises UserError if a class has fewer images than are asked for.
    """
    if data.synthetic.any():
        raise ValueError("stage 2 takes real images only")
    model = copy.deepcopy(model).to(data.images.device).eval()
    if settings.method in ("tau_norm", "logit_adjustment"):
        _rescale(model, settings, counts)
        return model, NO_STEPS
    classes = model.card["classes"]
    rng = np.random.default_rng(seed)
    if settings.method == "dfr":
        return sparse_head(model, data, settings, seed), NO_STEPS
    data = data.subset(choose_few(*data.cells_or_classes(classes), settings.images_per_class, rng))
    torch.manual_seed(seed)
    model.requires_grad_(False)
    if settings.start == "fresh":
        model.head.reset_parameters()
    scales = torch.ones(len(classes), device=data.images.device)
    trained = [scales] if settings.method == "scale" else list(model.head.parameters())
    for parameter in trained:
        parameter.requires_grad_(True)
    loss_per_image = make_loss(Loss(), scales)
    per_class = class_weights(settings.class_weights, torch.bincount(data.labels, minlength=len(classes)).float())

    def loss(positions: torch.Tensor, done: float) -> torch.Tensor:
        with torch.no_grad():
            features = model.features(data.augmented(positions, training, rng))
        logits, labels = model.head(features), data.labels[positions]
        if settings.method == "scale":
            logits = logits * scales
        weights = per_class[labels]
        return (weights * loss_per_image(logits, labels)).sum() / weights.sum()

    @torch.no_grad()
    def clip() -> None:
        norms = model.head.weight.norm(dim=1, keepdim=True)
        model.head.weight.mul_((settings.max_norm / norms).clamp_max(1))

    sampler = data.sampler(settings, training, seed, rng)
    _, history = optimise(model, trained, settings, sampler, loss, rng, after_step=clip if settings.max_norm else None)
    if settings.method == "scale":
        with torch.no_grad():
            model.head.weight.mul_(scales[:, None])
            model.head.bias.mul_(scales)
    return model.requires_grad_(True), history


@torch.no_grad()
def _rescale(model: Classifier, settings: Stage2, counts: np.ndarray) -> None:
    """Change the last layer without training.

    tau_norm (Kang et al. 2020): w_j / |w_j|^tau, and no bias. logit_adjustment (Menon et al. 2021, eq. 9): the
    bias less tau log pi_j, pi the share of class j among the images of stage 1.
    """
    if settings.method == "tau_norm":
        model.head.weight.div_(model.head.weight.norm(dim=1, keepdim=True) ** settings.tau)
        model.head.bias.zero_()
    else:
        prior = torch.from_numpy(counts / counts.sum()).to(model.head.bias)
        model.head.bias.sub_(settings.tau * prior.log())
