"""Stage 1: it learns, its settings have the effect that they are made for, and the same seed gives the same network."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from synaug.config import JTT, Loss, Mixup, Recipe, Stage1
from synaug.networks.classifier import load_classifier, save_classifier
from synaug.runtime.errors import UserError
from synaug.training import loop, stage1
from synaug.training.checkpoint import Checkpoint
from synaug.training.data import TrainingSet
from synaug.training.loop import scheduled_rate
from synaug.training.losses import GroupDROLoss
from synaug.training.parallel import Process
from synaug.training.stage1 import train_stage1
from training_sets import CLASSES, SIDES, brightness_classes, same_weights, spurious_brightness, worst_cell_accuracy

SETTINGS = Stage1(width=4, steps=6, batch_size=16, learning_rate=0.05, shift=1)


def same(first, second) -> bool:
    return same_weights(first.state_dict(), second.state_dict())


@pytest.mark.parametrize("mixup", [None, Mixup(alpha=0.2)])
def test_same_seed_gives_the_same_network_and_another_seed_another(mixup):
    data = brightness_classes(synthetic=0.3)
    settings = SETTINGS.model_copy(update={"mixup": mixup})
    model, history = train_stage1(data, CLASSES, settings, seed=1)
    again, history_again = train_stage1(data, CLASSES, settings, seed=1)
    other, _ = train_stage1(data, CLASSES, settings, seed=2)
    assert same(model, again)
    assert history.equals(history_again)
    assert not same(model, other)


def test_it_learns_what_is_easy():
    model, history = train_stage1(brightness_classes(), CLASSES, SETTINGS.model_copy(update={"steps": 60}), seed=0)
    test = brightness_classes(counts=(10, 10, 10), seed=1)
    assert (model.probabilities(test.images).argmax(1) == test.labels.numpy()).mean() > 0.9
    assert history["step"].tolist() == [50, 60]
    assert history["loss"].iloc[-1] < 0.7


def test_a_class_without_images_is_named():
    with pytest.raises(UserError, match="'light'"):
        train_stage1(brightness_classes(counts=(5, 5)), CLASSES, SETTINGS, seed=0)


def test_a_loss_that_is_not_a_number_is_a_user_error():
    with pytest.raises(UserError, match="learning_rate"):
        train_stage1(brightness_classes(), CLASSES, SETTINGS.model_copy(update={"learning_rate": 1e30}), seed=0)


@pytest.fixture(scope="module")
def without_change():
    return train_stage1(brightness_classes(synthetic=0.3), CLASSES, SETTINGS, seed=1)[0]


@pytest.mark.parametrize(
    "change",
    [
        {"loss": Loss(name="balanced_softmax")},
        {"class_weights": "effective"},
        {"class_weights": "inverse", "deferred": 0.5},
        {"sampling": "class_balanced"},
        {"synthetic_weight": 0.2},
        {"synthetic_first": 0.5},
        {"optimizer": "adamw", "learning_rate": 0.001},
        {"precision": "bfloat16"},
        {"ema": 0.9},
    ],
    ids=lambda change: "-".join(change),
)
def test_every_setting_changes_the_network_and_repeats(change, without_change):
    data, settings = brightness_classes(synthetic=0.3), SETTINGS.model_copy(update=change)
    model, again = (train_stage1(data, CLASSES, settings, seed=1)[0] for _ in range(2))
    assert same(model, again)
    assert not same(model, without_change)


@pytest.mark.parametrize(("devices", "count"), [(1, 0), (1, 1), (1, 55), (1, 56), (2, 3), (2, 53)])
def test_synthetic_first_with_too_few_images_of_one_kind_trains_on_all_images(caplog, devices, count):
    """count: synthetic images, of 56."""
    settings = SETTINGS.model_copy(update={"synthetic_first": 0.5, "devices": devices})
    data = brightness_classes()
    data.synthetic[:count] = True
    model, _ = train_stage1(data, CLASSES, settings, seed=1)
    plain, _ = train_stage1(data, CLASSES, SETTINGS, seed=1)
    assert same(model, plain)
    assert f"synthetic_first: {count} synthetic and {56 - count} real images are too few for" in caplog.text


def test_processes_that_train_together_leave_the_synthetic_images_at_the_same_step():
    data, settings = brightness_classes(synthetic=0.5), Stage1(steps=10, synthetic_first=0.4, batch_size=8, devices=2)
    drawn = []
    for rank in range(2):
        process = Process("cpu", rank, 2)
        sampler = data.make_sampler(settings, 1.0, 0, process.random_generator(0), process)
        drawn.append([sampler.draw() for _ in range(10)])
    for step, (first, second) in enumerate(zip(*drawn, strict=True)):
        assert torch.equal(first, second)
        assert data.synthetic[first].all() if step < 4 else not data.synthetic[first].any()


def test_a_network_with_a_cosine_head_and_ldam_is_trained_and_saved(tmp_path):
    ldam = {"head": "cosine", "loss": Loss(name="ldam"), "class_weights": "effective", "deferred": 0.5}
    model, _ = train_stage1(brightness_classes(), CLASSES, SETTINGS.model_copy(update=ldam), seed=0)
    images = brightness_classes().images
    assert model(images).abs().max() <= 30
    save_classifier(model, tmp_path / "model.safetensors")
    loaded = load_classifier(tmp_path / "model.safetensors")
    assert np.array_equal(loaded.probabilities(images), model.probabilities(images))


def overlapping_classes(counts, seed: int, synthetic=(0, 0, 0)) -> TrainingSet:
    """Classes that only brightness tells apart, and not always. counts, synthetic: images of each class."""
    rng = np.random.default_rng(seed)
    data = brightness_classes(np.add(counts, synthetic), side=8, seed=seed)
    images = data.images.float() / 3 + torch.from_numpy(rng.normal(0, 40, (len(data), 1, 1, 1))) + 60
    number_in_class = torch.cat([torch.arange(real + fill) for real, fill in zip(counts, synthetic, strict=True)])
    is_synthetic = number_in_class >= torch.tensor(counts)[data.labels]
    return TrainingSet(images.clamp(0, 255).to(torch.uint8), data.labels, is_synthetic, data.weights)


def rare_class_recall(data: TrainingSet, **change) -> float:
    """Share of images of class 2 that a network trained on `data` recognises."""
    settings = SETTINGS.model_copy(update={"steps": 60, **change})
    test = overlapping_classes((40, 40, 40), seed=1)
    predicted = train_stage1(data, CLASSES, settings, seed=0)[0].probabilities(test.images).argmax(1)
    return float((predicted[80:] == 2).mean())


def test_methods_for_imbalance_find_the_rare_class():
    """Overlapping classes of 200 to 4 images: plain cross-entropy hardly ever predicts the rare one."""
    data = overlapping_classes((200, 60, 4), seed=0)
    plain = rare_class_recall(data)
    for change in ({"loss": Loss(name="balanced_softmax")}, {"sampling": "class_balanced"}):
        assert rare_class_recall(data, **change) > plain + 0.2, change


BALANCED_SOFTMAX, INVERSE_WEIGHTS = {"loss": Loss(name="balanced_softmax")}, {"class_weights": "inverse"}
PAIRS = {"mixup": Mixup(alpha=0.1, pairing="real_synthetic"), "synthetic_weight": 0.1}


@pytest.mark.parametrize(
    ("change", "rebalancing"),
    [
        ({"synthetic_weight": 0.02}, BALANCED_SOFTMAX),
        ({"synthetic_weight": 0.02}, INVERSE_WEIGHTS),
        ({"synthetic_first": 0.3}, BALANCED_SOFTMAX),
        (PAIRS, BALANCED_SOFTMAX),
        (PAIRS, INVERSE_WEIGHTS),
    ],
)
def test_rebalancing_follows_what_is_really_trained_on(change, rebalancing):
    """Every class has 200 images, but most of the loss falls on the class with 200 real ones."""
    data = overlapping_classes((200, 60, 4), seed=0, synthetic=(0, 140, 196))
    assert rare_class_recall(data, **change, **rebalancing) > rare_class_recall(data, **change) + 0.2


def test_an_average_of_the_weights_forgets_the_first_weights():
    data = brightness_classes()
    averaged, _ = train_stage1(data, CLASSES, SETTINGS.model_copy(update={"steps": 60, "ema": 0.999}), seed=0)
    test = brightness_classes(counts=(10, 10, 10), seed=1)
    assert (averaged.probabilities(test.images).argmax(1) == test.labels.numpy()).mean() > 0.9


def test_plain_cross_entropy_learns_the_spurious_brightness(spurious_model):
    assert worst_cell_accuracy(spurious_model) < 0.5


@pytest.mark.parametrize(
    "change",
    [
        {"sampling": "group_balanced"},
        {"sampling": "group_balanced", "group_dro": 0.01},
        {"jtt": JTT(steps=15, weight=20.0)},
    ],
    ids=lambda change: "-".join(change),
)
def test_methods_for_groups_are_better_on_the_worst_cell(change, group_settings, spurious_model):
    model, _ = train_stage1(spurious_brightness(), SIDES, group_settings.model_copy(update=change), 0)
    assert worst_cell_accuracy(model) > worst_cell_accuracy(spurious_model) + 0.2


@pytest.fixture
def synthetic_in_two_of_four_cells() -> TrainingSet:
    """The cells 1 and 2 have synthetic images, the cells 0, 1 and 3 real ones."""
    data = spurious_brightness((30, 20, 10, 30))
    data.synthetic[40:60] = True
    return data


GROUP_DRO_AFTER_SYNTHETIC = SETTINGS.model_copy(update={"steps": 8, "synthetic_first": 0.5, "group_dro": 0.5})


def test_group_dro_weights_the_cells_that_have_images_and_begins_anew_with_the_real_ones(
    synthetic_in_two_of_four_cells, monkeypatch
):
    weights = []

    class Recorded(GroupDROLoss):
        def __call__(self, *arguments):
            weights.append(self.group_weights.tolist())  # before the batch changes them
            return super().__call__(*arguments)

    monkeypatch.setattr(stage1, "GroupDROLoss", Recorded)
    train_stage1(synthetic_in_two_of_four_cells, SIDES, GROUP_DRO_AFTER_SYNTHETIC, 0)
    assert weights[0] == [0, 0.5, 0.5, 0]
    assert weights[4] == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])


@pytest.mark.parametrize("stop_at", [5, 7])
def test_group_dro_continues_with_its_weights_before_and_after_the_synthetic_images(
    stop_at, synthetic_in_two_of_four_cells, tmp_path, monkeypatch
):
    def train(checkpoint=None):
        return train_stage1(synthetic_in_two_of_four_cells, SIDES, GROUP_DRO_AFTER_SYNTHETIC, 0, checkpoint)[0]

    whole, checkpoint = train(), Checkpoint(tmp_path / "state.pt", "key")
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 0.0)
    monkeypatch.setattr(loop, "LOG_EVERY", 2)

    def rate_or_stop(peak, step, *arguments):
        if step == stop_at:
            raise KeyboardInterrupt
        return scheduled_rate(peak, step, *arguments)

    with monkeypatch.context() as interrupted, pytest.raises(KeyboardInterrupt):
        interrupted.setattr(loop, "scheduled_rate", rate_or_stop)
        train(checkpoint)
    assert checkpoint.load()["step"] == stop_at - 1
    assert same(train(checkpoint), whole)


@pytest.mark.parametrize(
    "recipe",
    [
        {"data": "real", "stage1": {"synthetic_first": 0.5}},
        {"data": "real", "stage1": {"group_dro": 0.01, "mixup": {"alpha": 0.2}}},
        {"data": "real", "stage1": {"group_dro": 0.01, "class_weights": "inverse"}},
        {"data": "real", "stage1": {}, "stage2": {"method": "dfr", "learning_rate": 0.1}},
        {"data": "real", "stage1": {}, "stage2": {"draws": 3}},
    ],
)
def test_settings_without_an_effect_are_errors(recipe):
    with pytest.raises(ValidationError):
        Recipe.model_validate(recipe)
