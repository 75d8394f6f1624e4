"""Stage 2: only the last layer changes, each method by its formula, and the same seed gives the same network."""

import numpy as np
import pytest
import torch

from synaug.config import Stage1, Stage2
from synaug.networks.classifier import Classifier
from synaug.runtime.errors import UserError
from synaug.training.stage1 import train_stage1
from synaug.training.stage2 import finetune_stage2
from training_sets import CLASSES, brightness_classes, same_weights, spurious_brightness, worst_cell_accuracy

SETTINGS = Stage1(width=4, steps=12, batch_size=16, learning_rate=0.05, shift=1)


@pytest.fixture(scope="module")
def trained() -> Classifier:
    return train_stage1(brightness_classes(), CLASSES, SETTINGS, seed=0)[0]


def finetune(model: Classifier, settings: Stage2, data=None, seed: int = 0):
    """Stage 2 after a stage 1 on the same images."""
    data = data or brightness_classes()
    return finetune_stage2(model, data, settings, SETTINGS, seed, np.bincount(data.labels))


@pytest.mark.parametrize("start", ["warm", "fresh"])
def test_only_the_last_layer_changes(trained, start):
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    tuned, _ = finetune(trained, Stage2(steps=5, start=start))
    after = tuned.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == {"head.weight", "head.bias"}
    assert same_weights(trained.state_dict(), before)  # the given network is not changed


def test_the_same_seed_gives_the_same_network(trained):
    first, second = (finetune(trained, Stage2(steps=5), seed=3)[0].state_dict() for _ in range(2))
    assert same_weights(first, second)


@pytest.mark.parametrize("counts", [(1, 1, 1), (3, 1, 1)])
def test_a_few_images_are_enough_for_both_stages(counts):
    data = brightness_classes(counts)
    model, _ = train_stage1(data, CLASSES, SETTINGS, seed=0)
    finetune(model, Stage2(steps=2), data)


def test_a_class_with_too_few_images_is_named(trained):
    with pytest.raises(UserError, match=r"images_per_class: 7 .*'light'.* has 6"):
        finetune(trained, Stage2(images_per_class=7))


def test_synthetic_images_are_refused(trained):
    with pytest.raises(ValueError, match="real"):
        finetune(trained, Stage2(), brightness_classes(synthetic=0.5))


def test_scale_multiplies_the_logits_of_each_class_by_one_factor(trained):
    settings = Stage2(method="scale", steps=20, learning_rate=0.1, images_per_class="all", sampling="class_balanced")
    tuned, history = finetune(trained, settings)
    factors = tuned.head.weight / trained.head.weight
    assert torch.allclose(factors, factors[:, :1].expand_as(factors), rtol=1e-4)
    assert torch.allclose(tuned.head.bias, factors[:, 0] * trained.head.bias, rtol=1e-4)
    assert (factors[:, 0] - 1).abs().max() > 1e-3
    assert history["step"].tolist() == [20]


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_tau_norm_divides_by_the_norm(trained, tau):
    tuned, history = finetune(trained, Stage2(method="tau_norm", tau=tau))
    for new, old in zip(tuned.head.weight.tolist(), trained.head.weight.tolist(), strict=True):
        norm = sum(value * value for value in old) ** 0.5
        assert new == pytest.approx([value / norm**tau for value in old], rel=1e-4)
    assert tuned.head.bias.tolist() == [0, 0, 0]
    assert len(history) == 0


def test_logit_adjustment_subtracts_the_log_prior_of_stage_1(trained):
    settings = Stage2(method="logit_adjustment", tau=2.0)
    tuned, _ = finetune_stage2(trained, brightness_classes(), settings, SETTINGS, 0, np.array([60, 30, 10]))
    images = brightness_classes().images[:5]
    subtracted = 2 * np.log([0.6, 0.3, 0.1])
    assert tuned(images).detach().numpy() == pytest.approx(trained(images).detach().numpy() - subtracted, abs=1e-4)


def test_max_norm_bounds_the_weights_of_every_class(trained):
    settings = Stage2(steps=30, learning_rate=1.0, images_per_class="all", class_weights="effective", max_norm=0.5)
    tuned, _ = finetune(trained, settings)
    assert tuned.head.weight.norm(dim=1).tolist() == pytest.approx([0.5] * 3, rel=1e-4)


def test_with_groups_the_same_number_of_every_cell_is_drawn(spurious_model, group_settings):
    settings, counts = Stage2(steps=30, learning_rate=0.1), np.array([100, 100])
    tuned, _ = finetune_stage2(spurious_model, spurious_brightness(), settings, group_settings, 0, counts)
    assert worst_cell_accuracy(tuned) > worst_cell_accuracy(spurious_model)


def test_dfr_is_better_on_the_worst_cell_and_leaves_the_body_unchanged(spurious_model, group_settings):
    settings, counts = Stage2(method="dfr", draws=3), np.array([100, 100])
    tuned, again = (
        finetune_stage2(spurious_model, spurious_brightness(), settings, group_settings, 0, counts) for _ in range(2)
    )
    assert worst_cell_accuracy(tuned[0]) > worst_cell_accuracy(spurious_model) + 0.1
    assert torch.equal(tuned[0].body[0].weight, spurious_model.body[0].weight) and len(tuned[1]) == 0
    assert torch.equal(again[0].head.weight, tuned[0].head.weight)


@pytest.mark.parametrize("settings", [{}, {"images_per_class": "all"}, {"method": "dfr"}])
def test_a_class_without_images_in_the_split_of_stage_2_is_one_line(spurious_model, group_settings, settings):
    """With groups, its cells have no name among those of the images."""
    data = spurious_brightness()
    of_first = data.subset(np.flatnonzero(data.labels.numpy() == 0))
    settings = Stage2(draws=1, **settings) if "method" in settings else Stage2(steps=2, **settings)
    with pytest.raises(UserError, match=r"stage2: class .* has no usable image in the split of stage 2"):
        finetune_stage2(spurious_model, of_first, settings, group_settings, 0, np.array([100, 100]))
