"""Perceptual hashes equal their definition, and the nearest hashes are those of a plain loop."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from synaug.images.perceptual_hash import nearest_earlier_hashes, nearest_hashes, perceptual_hashes


def test_hash_is_pHash_computed_naively():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 1), np.uint8)
    means = pixels[..., 0].reshape(20, 32, 2, 32, 2).mean((2, 4))
    for image, image_hash in zip(means, perceptual_hashes(pixels), strict=True):
        low = dctn(image, norm="ortho")[:8, :8].ravel()
        assert int(image_hash) == int("".join(str(int(bit)) for bit in low > np.median(low)), 2)


def load_images(pngs) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(png)))[..., None] for png in pngs])


def test_similar_images_have_similar_hashes_and_different_images_do_not(pngs):
    pixels = load_images(pngs)
    noisy = np.clip(pixels + np.random.default_rng(0).normal(0, 2, pixels.shape), 0, 255).astype(np.uint8)
    differing_bits = np.bitwise_count(perceptual_hashes(pixels) ^ perceptual_hashes(noisy))
    assert np.quantile(differing_bits, 0.95) <= 4
    _, nearest = nearest_earlier_hashes(perceptual_hashes(pixels))
    assert np.median(nearest[20:]) > 6
    assert len(perceptual_hashes(pixels[:0])) == 0
    assert len(perceptual_hashes(np.repeat(pixels[:3], 3, axis=3))) == 3


@pytest.mark.parametrize("block", [4, 1 << 21])
def test_nearest_hashes_equal_a_loop(block, monkeypatch):
    monkeypatch.setattr("synaug.images.perceptual_hash._BLOCK", block)
    hashes, others = np.random.default_rng(1).integers(0, 2**63, (2, 30)).astype(np.uint64)
    nearest, distance = nearest_hashes(hashes, others)
    earlier, earlier_distance = nearest_earlier_hashes(hashes)
    for i, image_hash in enumerate(hashes):
        bits = [int(image_hash ^ other).bit_count() for other in others]
        assert (nearest[i], distance[i]) == (int(np.argmin(bits)), min(bits))
        bits = [int(image_hash ^ other).bit_count() for other in hashes[:i]]
        assert (earlier[i], earlier_distance[i]) == ((int(np.argmin(bits)), min(bits)) if bits else (-1, 65))
    assert nearest_hashes(hashes, others[:0])[0].tolist() == [-1] * 30
    assert len(nearest_earlier_hashes(hashes[:0])[0]) == 0
