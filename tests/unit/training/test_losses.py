"""Losses against their papers' formulas, computed by hand or in plain Python."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from synaug.config import Loss
from synaug.training.losses import GroupDROLoss, class_weights, make_loss
from synaug.training.parallel import Process

COUNTS = torch.tensor([100.0, 10.0, 1.0])
LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.5, -1.0, 3.0]])
LABELS = torch.tensor([1, 2])


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def test_cross_entropy_by_hand():
    # -log(e^1 / (e^2 + e^1 + e^0)) = 1.407606; -log(e^3 / (e^0.5 + e^-1 + e^3)) = 0.095674.
    loss = make_loss(Loss(), COUNTS)(LOGITS, LABELS)
    assert loss.tolist() == pytest.approx([1.407606, 0.095674], abs=1e-5)


def test_label_smoothing_mixes_in_the_uniform_distribution():
    smoothed = make_loss(Loss(label_smoothing=0.3), COUNTS)(LOGITS, LABELS)
    for row, label, value in zip(LOGITS.tolist(), LABELS.tolist(), smoothed.tolist(), strict=True):
        logs = [math.log(p) for p in softmax(row)]
        assert value == pytest.approx(-0.7 * logs[label] - 0.3 * sum(logs) / 3, abs=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_weights_each_image_by_its_error_probability(gamma):
    focal = make_loss(Loss(name="focal", gamma=gamma), COUNTS)(LOGITS, LABELS)
    for row, label, value in zip(LOGITS.tolist(), LABELS.tolist(), focal.tolist(), strict=True):
        p = softmax(row)[label]
        assert value == pytest.approx(-((1 - p) ** gamma) * math.log(p), abs=1e-5)


def test_focal_of_the_paper():
    # Lin et al. 2017, section 3.2: with gamma 2 the loss of an example at p = 0.9 is 100 times lower than with CE.
    logits = torch.tensor([[math.log(9.0), 0.0]])
    labels, counts = torch.tensor([0]), torch.tensor([1.0, 1.0])
    cross_entropy, focal = make_loss(Loss(), counts), make_loss(Loss(name="focal", gamma=2.0), counts)
    ratio = cross_entropy(logits, labels) / focal(logits, labels)
    assert ratio.item() == pytest.approx(100, rel=1e-3)


def test_balanced_softmax_multiplies_every_exponential_by_its_class_count():
    loss = make_loss(Loss(name="balanced_softmax"), COUNTS)(LOGITS, LABELS)
    for row, label, value in zip(LOGITS.tolist(), LABELS.tolist(), loss.tolist(), strict=True):
        weighted = [n * math.exp(z) for n, z in zip(COUNTS.tolist(), row, strict=True)]
        assert value == pytest.approx(-math.log(weighted[label] / sum(weighted)), abs=1e-5)


@pytest.mark.parametrize("tau", [0.5, 1.0, 1.5])
def test_logit_adjustment_is_the_pairwise_form_of_the_paper(tau):
    # Menon et al. 2021, eq. 10: log(1 + sum over other classes of (pi_other / pi_y)^tau exp(z_other - z_y)).
    loss = make_loss(Loss(name="logit_adjustment", tau=tau), COUNTS)(LOGITS, LABELS)
    prior = [n / 111 for n in COUNTS.tolist()]
    for row, y, value in zip(LOGITS.tolist(), LABELS.tolist(), loss.tolist(), strict=True):
        others = sum((prior[o] / prior[y]) ** tau * math.exp(row[o] - row[y]) for o in range(3) if o != y)
        assert value == pytest.approx(math.log1p(others), abs=1e-5)


def test_ldam_subtracts_the_margin_from_the_logit_of_the_label_only():
    # n^(-1/4) for 1296, 16, 1: 1/6, 1/2, 1; so that the smallest class has 0.5: 1/12, 1/4, 1/2; times 30: 2.5, 7.5, 15.
    loss = make_loss(Loss(name="ldam"), torch.tensor([1296.0, 16.0, 1.0]))
    logits = torch.tensor([[20.0, 10.0, 5.0]]).repeat(3, 1)
    for label, shifted in enumerate(([17.5, 10, 5], [20, 2.5, 5], [20, 10, -10])):
        expected = -math.log(softmax(shifted)[label])
        assert loss(logits[:1], torch.tensor([label])).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["balanced_softmax", "logit_adjustment"])
def test_losses_that_use_the_counts_are_cross_entropy_for_equal_classes(name):
    loss = make_loss(Loss(name=name), torch.full((3,), 40.0))(LOGITS, LABELS)
    assert torch.allclose(loss, F.cross_entropy(LOGITS, LABELS, reduction="none"), atol=1e-6)


def test_class_weights_by_hand():
    assert class_weights("none", COUNTS).tolist() == [1, 1, 1]
    # 1/100, 1/10, 1 over their mean 0.37.
    assert class_weights("inverse", COUNTS).tolist() == pytest.approx([0.027027, 0.27027, 2.7027], rel=1e-4)
    effective = [(1 - 0.9999) / (1 - 0.9999**n) for n in (100, 10, 1)]
    mean = sum(effective) / 3
    assert class_weights("effective", COUNTS).tolist() == pytest.approx([w / mean for w in effective], rel=1e-4)


def test_effective_weights_of_large_classes_are_equal():
    effective = class_weights("effective", torch.tensor([1e6, 1e5, 10.0]))
    # The effective number is at most 10,000, so larger classes have the same weight.
    assert effective[0].item() == pytest.approx(effective[1].item(), rel=1e-3)


def test_focal_loss_of_a_certain_prediction_has_a_finite_gradient():
    # (1 - p)^gamma with gamma below 1 is infinitely steep at p = 1, though the loss itself is flat there.
    logits = torch.tensor([[200.0, 0.0], [30.0, 0.0]], requires_grad=True)
    make_loss(Loss(name="focal", gamma=0.5), torch.ones(2))(logits, torch.tensor([0, 0])).sum().backward()
    assert torch.isfinite(logits.grad).all() and logits.grad.abs().max() < 1e-3


def test_group_dro_by_hand():
    group_dro = GroupDROLoss(3, 0.5, Process("cpu"))
    loss = group_dro(torch.tensor([1.0, 3.0, 4.0]), torch.tensor([0, 0, 2]), torch.ones(3))
    # Mean losses 2, 0 (no image), 4: weights e^1, 1, e^2 over their sum.
    weights = np.exp([1.0, 0.0, 2.0]) / np.exp([1.0, 0.0, 2.0]).sum()
    assert group_dro.group_weights.tolist() == pytest.approx(weights.tolist())
    assert loss.item() == pytest.approx(weights[0] * 2 + weights[2] * 4)


def test_group_dro_takes_the_mean_of_a_group_whatever_its_weights_sum_to():
    """Synthetic images with a low weight must not make their group look easy."""
    losses, groups = torch.tensor([1.0, 3.0, 4.0]), torch.tensor([0, 0, 2])
    both = []
    for weights in ([1.0, 1.0, 1.0], [1.0, 1.0, 0.1]):
        group_dro = GroupDROLoss(3, 0.5, Process("cpu"))
        both.append(group_dro(losses, groups, torch.tensor(weights)).item())
    assert both[0] == pytest.approx(both[1])
    unequal = GroupDROLoss(3, 0.5, Process("cpu"))
    unequal(losses, groups, torch.tensor([3.0, 1.0, 1.0]))
    weights = np.exp([0.5 * 1.5, 0.0, 2.0])
    assert unequal.group_weights.tolist() == pytest.approx((weights / weights.sum()).tolist())


def test_group_dro_begins_anew_with_the_groups_that_have_images():
    group_dro = GroupDROLoss(4, 0.5, Process("cpu"))
    groups = torch.tensor([0, 0, 1, 3])
    group_dro(torch.tensor([1.0, 3.0, 4.0, 2.0]), groups, torch.ones(4))
    weights = group_dro.group_weights  # the tensor that checkpoints save
    group_dro.begin_anew(groups, torch.tensor([False, True, False, True]))
    assert weights.tolist() == [0.5, 0, 0, 0.5]
    assert group_dro(torch.tensor([4.0, 2.0]), torch.tensor([0, 3]), torch.ones(2)).item() == pytest.approx(
        (4 * math.exp(2) + 2 * math.exp(1)) / (math.exp(2) + math.exp(1))
    )


class WithoutFloat64(torch.Tensor):
    """A tensor on a device that has no float64, as Apple GPUs. The CPU of the test computes for it."""

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), keywords=None):
        result = super().__torch_function__(function, types, arguments, keywords or {})
        if function is torch.Tensor.cpu:
            return result.as_subclass(torch.Tensor)
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            raise TypeError("the MPS framework doesn't support float64")
        return result


@pytest.mark.parametrize("weighting", ["none", "inverse", "effective"])
def test_class_weights_need_no_float64_on_the_device(weighting):
    counts = torch.tensor([5000.0, 0.0, 10.0, 1.0])
    weights = class_weights(weighting, counts.as_subclass(WithoutFloat64))
    assert weights.dtype == torch.float32
    assert torch.equal(weights.as_subclass(torch.Tensor), class_weights(weighting, counts))
