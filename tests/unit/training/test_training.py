"""Training: augmentation, Mixup, the two stages, and that the same seed gives the same network."""

import numpy as np
import pandas as pd
import pytest
import torch

from synaug.config import CutMix, Loss, Mixup, RandAugment, Stage1, Stage2
from synaug.evaluation.predictions import predict
from synaug.manifests import read_manifest, write_manifest
from synaug.networks.classifier import Classifier, CosineHead, load_classifier, save_classifier
from synaug.runtime.errors import UserError
from synaug.training.augmentation import augment
from synaug.training.data import TrainingSet, load_training_set
from synaug.training.mixing import cutmix, draw_partners, mix, mixup
from synaug.training.sampling import choose_few
from synaug.training.stage1 import train_stage1
from synaug.training.stage2 import finetune_stage2

CLASSES = ["dark", "middle", "light"]
SETTINGS = Stage1(width=4, steps=12, batch_size=16, learning_rate=0.05, shift=1)


def training_set(counts=(30, 20, 6), synthetic: float = 0.0, side: int = 12, seed: int = 0) -> TrainingSet:
    """Noise whose brightness is its class: easy to learn. synthetic: share of synthetic images."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    images = rng.integers(0, 60, (len(labels), 1, side, side)) + 90 * labels[:, None, None, None]
    return TrainingSet(
        torch.from_numpy(images.astype(np.uint8)),
        torch.from_numpy(labels),
        torch.from_numpy(rng.random(len(labels)) < synthetic),
        torch.ones(len(labels)),
    )


@pytest.fixture(scope="module")
def trained() -> Classifier:
    return train_stage1(training_set(), CLASSES, SETTINGS, seed=0)[0]


def stage2(model: Classifier, data: TrainingSet, settings: Stage2, seed: int = 0):
    """Stage 2 after a stage 1 on the same images."""
    return finetune_stage2(model, data, settings, SETTINGS, seed, np.bincount(data.labels))


def weights(model: Classifier) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: Classifier, other: Classifier) -> bool:
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(5, 1, 12, 12), (5, 3, 9, 14)])
def test_augmented_images_keep_type_and_shape(dtype, shape):
    images = torch.randint(1, 256, shape).to(dtype)
    moved = augment(images, Stage1(shift=3), np.random.default_rng(0))
    assert (moved.dtype, moved.shape) == (images.dtype, images.shape)
    assert not torch.equal(moved, images)
    assert torch.equal(augment(images, Stage1(shift=0, flip=False), np.random.default_rng(0)), images)


def test_augmentation_moves_or_flips_and_nothing_else():
    image = torch.arange(1, 26, dtype=torch.uint8).reshape(1, 1, 5, 5)
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
    moved = [padded[:, :, y : y + 5, x : x + 5] for y in range(3) for x in range(3)]
    allowed = {tuple(i.flatten().tolist()) for one in moved for i in (one, one.flip(3))}
    made = augment(image.expand(400, -1, -1, -1), Stage1(shift=1), np.random.default_rng(0))
    assert {tuple(i.flatten().tolist()) for i in made} == allowed


def test_randaugment_changes_images_and_keeps_their_form():
    images = torch.randint(0, 256, (6, 1, 16, 16), dtype=torch.uint8)
    settings = Stage1(shift=0, flip=False, randaugment=RandAugment(operations=3, magnitude=20))
    torch.manual_seed(0)
    once = augment(images, settings, np.random.default_rng(0))
    assert (once.dtype, once.shape) == (images.dtype, images.shape) and not torch.equal(once, images)
    torch.manual_seed(0)
    assert torch.equal(augment(images, settings, np.random.default_rng(0)), once)


def test_cutmix_pastes_a_rectangle_of_the_partner_and_returns_the_share_that_is_left():
    data = training_set(synthetic=0.4)
    settings = CutMix(alpha=1.0)
    mixed, partners, shares = cutmix(data.images, data.synthetic, settings, np.random.default_rng(0))
    assert (data.synthetic[partners] != data.synthetic).all()  # of the other domain
    for image, own, partner, share in zip(mixed, data.images, data.images[partners], shares, strict=True):
        pasted = (image == partner) & (image != own)
        assert ((image == own) | (image == partner)).all()
        assert pasted.float().mean() <= 1 - share + 1e-6
    assert 0.3 < shares.mean() < 0.8 and shares.min() >= 0 and shares.max() <= 1


def test_with_both_a_batch_is_mixed_up_or_cut():
    data = training_set()
    rng = np.random.default_rng(0)
    kinds = {bool((mix(data.images, data.synthetic, Mixup(alpha=1.0), CutMix(alpha=1.0), rng)[0] % 1 == 0).all())}
    for _ in range(20):
        mixed, _, _ = mix(data.images, data.synthetic, Mixup(alpha=1.0), CutMix(alpha=1.0), rng)
        kinds.add(bool((mixed % 1 == 0).all()))  # a pasted pixel is a whole number
    assert kinds == {True, False}


@pytest.mark.parametrize("pairing", ["random", "real_synthetic"])
def test_mixed_images_are_what_weights_and_partners_say(pairing):
    data = training_set(synthetic=0.4)
    settings = Mixup(alpha=0.4, pairing=pairing)
    mixed, partners, shares = mixup(data.images, data.synthetic, settings, np.random.default_rng(0))
    share = shares[:, None, None, None]
    expected = share * data.images.float() + (1 - share) * data.images[partners].float()
    assert torch.allclose(mixed, expected, atol=1e-4)
    assert ((shares >= 0) & (shares <= 1)).all()


@pytest.mark.parametrize("trial", range(5))
def test_partners_come_from_the_other_domain(trial):
    rng = np.random.default_rng(trial)
    synthetic = rng.random(40) < 0.3
    partners = draw_partners(synthetic, "real_synthetic", rng)
    assert (synthetic[partners] != synthetic).all()


@pytest.mark.parametrize("domain", [False, True])
def test_a_batch_of_one_domain_is_mixed_within_itself(domain):
    partners = draw_partners(np.full(10, domain), "real_synthetic", np.random.default_rng(0))
    assert sorted(partners.tolist()) == list(range(10))


@pytest.mark.parametrize("mixed", [None, Mixup(alpha=0.2)])
def test_same_seed_gives_the_same_network_and_another_seed_another(mixed):
    data = training_set(synthetic=0.3)
    settings = SETTINGS.model_copy(update={"mixup": mixed})
    one, history = train_stage1(data, CLASSES, settings, seed=1)
    again, history_again = train_stage1(data, CLASSES, settings, seed=1)
    other, _ = train_stage1(data, CLASSES, settings, seed=2)
    assert same(one, again)
    assert history.equals(history_again)
    assert not same(one, other)


def test_it_learns_what_is_easy():
    model, history = train_stage1(training_set(), CLASSES, SETTINGS.model_copy(update={"steps": 60}), seed=0)
    fresh = training_set(counts=(10, 10, 10), seed=1)
    assert (model.probabilities(fresh.images).argmax(1) == fresh.labels.numpy()).mean() > 0.9
    assert history["step"].tolist() == [50, 60]
    assert history["loss"].iloc[-1] < 0.7


def test_probabilities_do_not_depend_on_the_batch(trained):
    images = training_set().images
    whole = trained.probabilities(images)
    assert whole.sum(1) == pytest.approx(np.ones(len(images)), abs=1e-5)
    assert np.allclose(whole, trained.probabilities(images, batch_size=7), atol=1e-5)


def test_a_class_without_images_is_named():
    with pytest.raises(UserError, match="'light'"):
        train_stage1(training_set(counts=(5, 5)), CLASSES, SETTINGS, seed=0)


@pytest.mark.parametrize("counts", [(1, 1, 1), (3, 1, 1)])
def test_a_few_images_are_enough_to_train(counts):
    model, _ = train_stage1(training_set(counts), CLASSES, SETTINGS, seed=0)
    stage2(model, training_set(counts), Stage2(steps=2))


def test_a_loss_that_is_no_number_is_a_user_error():
    with pytest.raises(UserError, match="learning_rate"):
        train_stage1(training_set(), CLASSES, SETTINGS.model_copy(update={"learning_rate": 1e30}), seed=0)


@pytest.mark.parametrize("start", ["warm", "fresh"])
def test_stage_2_changes_the_last_layer_only(trained, start):
    before = weights(trained)
    tuned, _ = stage2(trained, training_set(), Stage2(steps=5, start=start))
    after = weights(tuned)
    assert {name for name in after if not torch.equal(after[name], before[name])} == {"head.weight", "head.bias"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(trained).items())


def test_stage_2_repeats_exactly(trained):
    one, other = (stage2(trained, training_set(), Stage2(steps=5), seed=3)[0] for _ in range(2))
    assert same(one, other)


@pytest.mark.parametrize(("wanted", "given"), [(None, 6), (6, 6), (2, 2)])
def test_stage_2_takes_equally_many_of_every_class(wanted, given):
    labels = training_set().labels.numpy()
    chosen = choose_few(labels, CLASSES, wanted, np.random.default_rng(0))
    assert np.bincount(labels[chosen]).tolist() == [given] * 3
    assert len(set(chosen.tolist())) == len(chosen)


def test_stage_2_names_the_class_that_has_too_few(trained):
    with pytest.raises(UserError, match=r"images_per_class.*'light' has 6"):
        stage2(trained, training_set(), Stage2(images_per_class=7))


def test_stage_2_scales_each_class_by_one_factor(trained):
    settings = Stage2(method="scale", steps=20, learning_rate=0.1, images_per_class="all", sampling="class_balanced")
    tuned, history = stage2(trained, training_set(), settings)
    factors = tuned.head.weight / trained.head.weight
    assert torch.allclose(factors, factors[:, :1].expand_as(factors), rtol=1e-4)
    assert torch.allclose(tuned.head.bias, factors[:, 0] * trained.head.bias, rtol=1e-4)
    assert (factors[:, 0] - 1).abs().max() > 1e-3
    assert history["step"].tolist() == [20]


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_tau_norm_divides_by_the_norm(trained, tau):
    tuned, history = stage2(trained, training_set(), Stage2(method="tau_norm", tau=tau))
    for new, old in zip(tuned.head.weight.tolist(), trained.head.weight.tolist(), strict=True):
        norm = sum(value * value for value in old) ** 0.5
        assert new == pytest.approx([value / norm**tau for value in old], rel=1e-4)
    assert tuned.head.bias.tolist() == [0, 0, 0]
    assert len(history) == 0


def test_logit_adjustment_takes_the_log_prior_of_stage_1(trained):
    settings = Stage2(method="logit_adjustment", tau=2.0)
    tuned, _ = finetune_stage2(trained, training_set(), settings, SETTINGS, 0, np.array([60, 30, 10]))
    images = training_set().images[:5]
    taken = 2 * np.log([0.6, 0.3, 0.1])
    assert tuned(images).detach().numpy() == pytest.approx(trained(images).detach().numpy() - taken, abs=1e-4)


def test_max_norm_bounds_every_class(trained):
    settings = Stage2(steps=30, learning_rate=1.0, images_per_class="all", class_weights="effective", max_norm=0.5)
    tuned, _ = stage2(trained, training_set(), settings)
    assert tuned.head.weight.norm(dim=1).tolist() == pytest.approx([0.5] * 3, rel=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"loss": Loss(name="balanced_softmax")},
        {"class_weights": "effective"},
        {"class_weights": "inverse", "deferred": 0.5},
        {"sampling": "class_balanced"},
        {"synthetic_weight": 0.2},
        {"optimizer": "adamw", "learning_rate": 0.001},
        {"precision": "bfloat16"},
        {"ema": 0.9},
    ],
    ids=lambda change: "-".join(change),
)
def test_every_setting_changes_the_network_and_repeats(change):
    data = training_set(synthetic=0.3)
    plain, _ = train_stage1(data, CLASSES, SETTINGS, seed=1)
    settings = SETTINGS.model_copy(update=change)
    one, other = (train_stage1(data, CLASSES, settings, seed=1)[0] for _ in range(2))
    assert same(one, other)
    assert not same(one, plain)


def test_a_cosine_head_by_hand_and_saved(tmp_path):
    settings = SETTINGS.model_copy(update={"head": "cosine", "loss": Loss(name="ldam"), "class_weights": "effective"})
    model, _ = train_stage1(training_set(), CLASSES, settings.model_copy(update={"deferred": 0.5}), seed=0)
    features, weights = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, -2.0]])
    head = CosineHead(2, 2)
    head.weight.data = weights
    assert head(features).tolist()[0] == pytest.approx([30 * 0.6, -30 * 0.8])
    images = training_set().images
    assert model(images).abs().max() <= 30
    save_classifier(model, tmp_path / "model.safetensors")
    loaded = load_classifier(tmp_path / "model.safetensors")
    assert np.array_equal(loaded.probabilities(images), model.probabilities(images))


def test_a_rare_class_is_found_by_what_is_made_for_it():
    """Overlapping classes, 200 to 4: plain cross-entropy hardly ever says the rare one."""
    rng = np.random.default_rng(0)

    def noisy(counts) -> TrainingSet:
        data = training_set(counts)
        images = data.images.float() / 3 + torch.from_numpy(rng.normal(0, 40, (len(data), 1, 1, 1))) + 60
        return TrainingSet(images.clamp(0, 255).to(torch.uint8), data.labels, data.synthetic, data.weights)

    data, test = noisy((200, 60, 4)), noisy((40, 40, 40))

    def recall(**change) -> float:
        settings = SETTINGS.model_copy(update={"steps": 60, **change})
        said = train_stage1(data, CLASSES, settings, seed=0)[0].probabilities(test.images).argmax(1)
        return float((said[80:] == 2).mean())

    plain = recall()
    for change in ({"loss": Loss(name="balanced_softmax")}, {"sampling": "class_balanced"}):
        assert recall(**change) > plain + 0.2, change


def test_stage_2_refuses_synthetic_images(trained):
    with pytest.raises(ValueError, match="real"):
        stage2(trained, training_set(synthetic=0.5), Stage2())


def test_a_saved_network_says_the_same(trained, tmp_path):
    save_classifier(trained, tmp_path / "model.safetensors")
    loaded = load_classifier(tmp_path / "model.safetensors")
    images = training_set(seed=4).images
    assert np.array_equal(loaded.probabilities(images), trained.probabilities(images))
    assert loaded.card["classes"] == CLASSES


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_a_file_that_is_no_network_is_a_user_error(tmp_path, content):
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_classifier(tmp_path / "model.safetensors")


@pytest.fixture
def manifest(tmp_path, pngs) -> pd.DataFrame:
    """Nine rows of the manifest `balanced` over image files."""
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(pngs[number])
    return pd.DataFrame(
        {
            "image_id": [f"{n:02d}" for n in range(9)],
            "label": [0, 1, 2] * 3,
            "label_name": CLASSES * 3,
            "split": "test",
            "source": ["real"] * 5 + ["synthetic"] * 4,
            "weight": 1.0,
            "path": [str(tmp_path / f"{n}.png") for n in range(9)],
            "row": pd.array([None] * 9, "Int64"),
        }
    )


def test_training_images_do_not_depend_on_the_order_of_the_manifest(manifest):
    one = load_training_set(manifest, 12, "grey", "cpu")
    other = load_training_set(manifest.sample(frac=1, random_state=0), 12, "grey", "cpu")
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.labels, other.labels)
    assert one.synthetic.sum() == 4


def test_predictions_follow_the_manifest_and_can_be_read_back(trained, manifest, tmp_path):
    shuffled = manifest.sample(frac=1, random_state=0)
    rows = predict(trained, shuffled, 12, "grey")
    assert rows["image_id"].tolist() == shuffled["image_id"].tolist()
    write_manifest("predictions", rows, tmp_path / "predictions.parquet")
    read = read_manifest("predictions", tmp_path / "predictions.parquet")
    assert [np.argmax(p) for p in read["probabilities"]] == read["predicted"].tolist()
