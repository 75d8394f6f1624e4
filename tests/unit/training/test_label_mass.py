"""Label mass: the expected mass is that of many batches which are really drawn, weighted and mixed."""

import numpy as np
import pytest
import torch

from synaug.config import CutMix, Loss, Mixup, Stage1
from synaug.training.label_mass import image_weights, phase_at, training_phases
from synaug.training.mixing import mix
from training_sets import brightness_classes, spurious_brightness

BATCHES = 400


def long_tail_with_fill():
    """Three classes of 60 images; 60, 30 and 6 of them are real."""
    data = brightness_classes((60, 60, 60), side=16)
    rank = torch.arange(180) % 60
    data.synthetic[:] = rank >= torch.tensor([60, 30, 6])[data.labels]
    return data


def measured_mass(data, settings: Stage1, first_step: int) -> np.ndarray:
    """Share of each class in the weights of the labels of many batches, from step `first_step` on."""
    rng = np.random.default_rng(0)
    sampler = data.make_sampler(settings, 1.0, 0, rng)
    for _ in range(first_step):
        sampler.draw()
    phase = phase_at(training_phases(data, settings, 3), first_step)
    weights = image_weights(data, settings) * phase.weight_of_class[data.labels]
    mass = torch.zeros(3)
    for _ in range(BATCHES):
        batch = sampler.draw()
        partners, share = torch.arange(len(batch)), torch.ones(len(batch))
        if settings.mixup or settings.cutmix:
            images = data.images[batch]
            _, partners, share = mix(images, data.synthetic[batch], settings.mixup, settings.cutmix, rng)
        mass.index_add_(0, data.labels[batch], share * weights[batch])
        mass.index_add_(0, data.labels[batch][partners], (1 - share) * weights[batch][partners])
    return (mass / mass.sum()).numpy()


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"mixup": Mixup(alpha=0.2, pairing="random")},
        {"mixup": Mixup(alpha=0.2, pairing="real_synthetic")},
        {"cutmix": CutMix(alpha=1.0, pairing="real_synthetic")},
        {"cutmix": CutMix(alpha=0.3, pairing="real_synthetic")},
        {"mixup": Mixup(alpha=1.0, pairing="random"), "cutmix": CutMix(alpha=1.0)},
        {"mixup": Mixup(alpha=0.2), "sampling": "square_root", "synthetic_weight": 0.25},
        {"synthetic_weight": 0.1, "class_weights": "inverse"},
        {"synthetic_weight": 0.1, "class_weights": "effective", "sampling": "class_balanced"},
    ],
    ids=str,
)
def test_the_expected_mass_is_that_of_the_batches(change):
    data = long_tail_with_fill()
    settings = Stage1(batch_size=60, **change)
    expected = training_phases(data, settings, 3)[-1].label_mass
    assert measured_mass(data, settings, 0) == pytest.approx((expected / expected.sum()).numpy(), abs=0.012)


def test_without_weights_and_mixing_the_mass_is_the_number_of_images():
    [phase] = training_phases(brightness_classes((30, 20, 6)), Stage1(), 3)
    assert phase.label_mass.tolist() == [30, 20, 6]


def test_pairs_of_real_and_synthetic_images_bring_the_imbalance_back():
    data = long_tail_with_fill()
    masses = [
        training_phases(data, Stage1(mixup=Mixup(alpha=0.2, pairing=pairing)), 3)[0].label_mass
        for pairing in ("random", "real_synthetic")
    ]
    assert masses[0].tolist() == pytest.approx([60, 60, 60])
    # Half of the mass falls on partners. The 84 synthetic images have real partners, and the reverse.
    assert masses[1].tolist() == pytest.approx(
        [(60 + 84 * 60 / 96) / 2, (60 + 96 * 30 / 84 + 84 * 30 / 96) / 2, (60 + 96 * 54 / 84 + 84 * 6 / 96) / 2]
    )


def test_each_phase_has_its_own_mass_and_weights():
    data = long_tail_with_fill()
    settings = Stage1(steps=100, synthetic_first=0.4, class_weights="inverse", deferred=0.7)
    phases = training_phases(data, settings, 3)
    assert [phase.first_step for phase in phases] == [0, 40, 70]
    assert [phase_at(phases, step).first_step for step in (0, 39, 40, 69, 70, 99)] == [0, 0, 40, 40, 70, 70]
    assert phases[0].label_mass.tolist() == [0, 30, 54]
    assert phases[1].label_mass.tolist() == [60, 30, 6]
    assert phases[2].label_mass.tolist() == pytest.approx([float(phases[2].label_mass[0])] * 3)
    assert measured_mass(data, settings, 40) == pytest.approx(np.array([60, 30, 6]) / 96, abs=0.01)


@pytest.mark.parametrize("change", [{"synthetic_first": 0.97}, {"class_weights": "inverse", "deferred": 0.97}])
def test_a_phase_that_begins_after_the_last_step_is_none(change):
    """The last mass is that of stage 2, which is fitted to what the network was trained on."""
    data = long_tail_with_fill()
    phases = training_phases(data, Stage1(steps=10, **change), 3)
    assert [phase.first_step for phase in phases] == [0]
    assert phases[0].label_mass.tolist() == ([0, 30, 54] if "synthetic_first" in change else [60, 60, 60])


@pytest.mark.parametrize("loss", [Loss(name="balanced_softmax", label_smoothing=0.1), Loss(name="ldam")])
def test_a_phase_without_images_of_a_class_has_a_finite_loss(loss):
    settings = Stage1(steps=10, synthetic_first=0.5, head="cosine", loss=loss)
    loss_per_image = training_phases(long_tail_with_fill(), settings, 3)[0].loss_per_image
    assert torch.isfinite(loss_per_image(torch.zeros(2, 3), torch.tensor([1, 2]))).all()


def test_ldam_has_margins_for_the_number_of_images_however_they_are_drawn():
    data = brightness_classes((30, 20, 6))
    logits, labels = torch.zeros(3, 3), torch.arange(3)
    settings = [
        Stage1(head="cosine", loss=Loss(name="ldam"), **change) for change in ({}, {"sampling": "class_balanced"})
    ]
    losses = [training_phases(data, choice, 3)[0].loss_per_image(logits, labels) for choice in settings]
    assert torch.equal(*losses)


def test_cells_that_are_drawn_equally_often_have_equal_mass():
    [phase] = training_phases(spurious_brightness((95, 5, 20, 80)), Stage1(sampling="group_balanced"), 2)
    assert phase.label_mass.tolist() == pytest.approx([100, 100])
