"""Mixup and CutMix: the mixtures, their shares, and which partners are drawn."""

import numpy as np
import pytest
import torch

from synaug.config import CutMix, Mixup
from synaug.training.mixing import cutmix, draw_partners, mix, mixup
from training_sets import brightness_classes


@pytest.mark.parametrize("pairing", ["random", "real_synthetic"])
def test_mixup_is_the_weighted_mean_of_image_and_partner(pairing):
    data = brightness_classes(synthetic=0.4)
    settings = Mixup(alpha=0.4, pairing=pairing)
    mixed, partners, shares = mixup(data.images, data.synthetic, settings, np.random.default_rng(0))
    share = shares[:, None, None, None]
    expected = share * data.images.float() + (1 - share) * data.images[partners].float()
    assert torch.allclose(mixed, expected, atol=1e-4)
    assert ((shares >= 0) & (shares <= 1)).all()


def test_cutmix_pastes_a_rectangle_of_the_partner_and_returns_the_share_that_is_left():
    data = brightness_classes(synthetic=0.4)
    settings = CutMix(alpha=1.0, pairing="real_synthetic")
    mixed, partners, shares = cutmix(data.images, data.synthetic, settings, np.random.default_rng(0))
    assert (data.synthetic[partners] != data.synthetic).all()  # of the other domain
    for image, original, partner, share in zip(mixed, data.images, data.images[partners], shares, strict=True):
        pasted = (image == partner) & (image != original)
        assert ((image == original) | (image == partner)).all()
        assert pasted.float().mean() <= 1 - share + 1e-6
    assert 0.3 < shares.mean() < 0.8 and shares.min() >= 0 and shares.max() <= 1


def test_with_both_settings_each_batch_is_mixed_by_one_of_the_methods():
    data = brightness_classes()
    rng = np.random.default_rng(0)
    batches = [mix(data.images, data.synthetic, Mixup(alpha=1.0), CutMix(alpha=1.0), rng).images for _ in range(21)]
    # Pixels that CutMix has pasted are whole numbers, those of Mixup are not.
    assert {bool((images % 1 == 0).all()) for images in batches} == {True, False}


@pytest.mark.parametrize("trial", range(5))
def test_partners_come_from_the_other_domain(trial):
    rng = np.random.default_rng(trial)
    synthetic = rng.random(40) < 0.3
    partners = draw_partners(synthetic, "real_synthetic", rng)
    assert (synthetic[partners] != synthetic).all()


@pytest.mark.parametrize("domain", [False, True])
def test_a_batch_of_one_domain_is_mixed_within_this_domain(domain):
    partners = draw_partners(np.full(10, domain), "real_synthetic", np.random.default_rng(0))
    assert sorted(partners.tolist()) == list(range(10))
