"""Losses against their papers' formulas, computed by hand or in plain Python."""

import math

import pytest
import torch
import torch.nn.functional as F

from synaug.config import Loss
from synaug.training.losses import class_weights, make_loss

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
def test_focal_weighs_by_what_is_lacking_to_certainty(gamma):
    focal = make_loss(Loss(name="focal", gamma=gamma), COUNTS)(LOGITS, LABELS)
    for row, label, value in zip(LOGITS.tolist(), LABELS.tolist(), focal.tolist(), strict=True):
        p = softmax(row)[label]
        assert value == pytest.approx(-((1 - p) ** gamma) * math.log(p), abs=1e-5)


def test_focal_of_the_paper():
    # Lin et al. 2017, section 3.2: with gamma 2 the loss of an example at p = 0.9 is 100 times lower than with CE.
    logits = torch.tensor([[math.log(9.0), 0.0]])
    one = torch.tensor([0])
    sizes = torch.tensor([1.0, 1.0])
    ratio = make_loss(Loss(), sizes)(logits, one) / make_loss(Loss(name="focal", gamma=2.0), sizes)(logits, one)
    assert ratio.item() == pytest.approx(100, rel=1e-3)


def test_balanced_softmax_weighs_every_exponential_by_its_class_size():
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


def test_ldam_takes_the_margin_from_the_label_only():
    # n^(-1/4) for 1296, 16, 1: 1/6, 1/2, 1; so that the smallest class has 0.5: 1/12, 1/4, 1/2; times 30: 2.5, 7.5, 15.
    loss = make_loss(Loss(name="ldam"), torch.tensor([1296.0, 16.0, 1.0]))
    logits = torch.tensor([[20.0, 10.0, 5.0]]).repeat(3, 1)
    for label, shifted in enumerate(([17.5, 10, 5], [20, 2.5, 5], [20, 10, -10])):
        expected = -math.log(softmax(shifted)[label])
        assert loss(logits[:1], torch.tensor([label])).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["balanced_softmax", "logit_adjustment"])
def test_with_equal_classes_it_is_cross_entropy(name):
    loss = make_loss(Loss(name=name), torch.full((3,), 40.0))(LOGITS, LABELS)
    assert torch.allclose(loss, F.cross_entropy(LOGITS, LABELS, reduction="none"), atol=1e-6)


def test_class_weights_by_hand():
    assert class_weights("none", COUNTS).tolist() == [1, 1, 1]
    # 1/100, 1/10, 1 over their mean 0.37.
    assert class_weights("inverse", COUNTS).tolist() == pytest.approx([0.027027, 0.27027, 2.7027], rel=1e-4)
    effective = [(1 - 0.9999) / (1 - 0.9999**n) for n in (100, 10, 1)]
    mean = sum(effective) / 3
    assert class_weights("effective", COUNTS).tolist() == pytest.approx([w / mean for w in effective], rel=1e-4)


def test_of_many_images_each_counts_less():
    effective = class_weights("effective", torch.tensor([1e6, 1e5, 10.0]))
    # The effective number is at most 10,000: classes beyond it count alike.
    assert effective[0].item() == pytest.approx(effective[1].item(), rel=1e-3)


def test_focal_loss_of_a_certain_answer_has_a_gradient():
    # (1 - p)^gamma with gamma below 1 is infinitely steep at p = 1, though the loss itself is flat there.
    logits = torch.tensor([[200.0, 0.0], [30.0, 0.0]], requires_grad=True)
    make_loss(Loss(name="focal", gamma=0.5), torch.ones(2))(logits, torch.tensor([0, 0])).sum().backward()
    assert torch.isfinite(logits.grad).all() and logits.grad.abs().max() < 1e-3
