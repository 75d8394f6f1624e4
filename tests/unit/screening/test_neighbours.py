"""Nearest neighbours by features are those of a plain loop."""

import sys

import numpy as np
import pytest

from synaug.runtime.errors import UserError
from synaug.screening.neighbours import nearest_earlier_features, nearest_features, normalise


@pytest.mark.parametrize("block_size", [7, 1 << 24])
def test_nearest_features_equal_a_loop(block_size, monkeypatch):
    monkeypatch.setattr("synaug.screening.neighbours._BLOCK", block_size)
    features, others = np.random.default_rng(0).normal(size=(2, 20, 5))
    nearest, similarity = nearest_features(normalise(features, "cpu"), normalise(others, "cpu"))
    earlier, earlier_similarity = nearest_earlier_features(normalise(features, "cpu"))

    def cosines(vector, vectors):
        return vectors @ vector / np.linalg.norm(vector) / np.linalg.norm(vectors, axis=1)

    for i, vector in enumerate(features):
        assert nearest[i] == cosines(vector, others).argmax()
        np.testing.assert_allclose(similarity[i], cosines(vector, others).max(), rtol=1e-5)
        if i:
            assert earlier[i] == cosines(vector, features[:i]).argmax()
            np.testing.assert_allclose(earlier_similarity[i], cosines(vector, features[:i]).max(), rtol=1e-5)
    assert earlier[0] == -1 and np.isnan(earlier_similarity[0])
    assert nearest_features(normalise(features, "cpu"), normalise(others[:0], "cpu"))[0].tolist() == [-1] * 20
    assert len(nearest_earlier_features(normalise(features[:0], "cpu"))[0]) == 0


@pytest.fixture
def many_images(monkeypatch):
    """Features of 300 and 2,000 images in 20 clusters, which are too many to be compared one by one."""
    monkeypatch.setattr("synaug.screening.neighbours.EXACT_PAIRS", 0)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(20, 16))
    sets = [centres[rng.integers(20, size=count)] + rng.normal(size=(count, 16)) / 2 for count in (300, 2000)]
    return [normalise(features, "cpu") for features in sets]


def test_the_index_finds_the_nearest_of_very_many_images(many_images):
    pytest.importorskip("faiss")
    features, others = many_images
    nearest, similarity = nearest_features(features, others)
    cosines = (features @ others.T).numpy()
    assert (nearest == cosines.argmax(1)).mean() >= 0.99
    np.testing.assert_allclose(similarity, cosines[np.arange(300), nearest], rtol=1e-5)
    again = nearest_features(features, others)
    assert again[0].tobytes() == nearest.tobytes() and again[1].tobytes() == similarity.tobytes()


def test_very_many_images_without_faiss_are_a_user_error(many_images, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match=r"300 with 2,000 images .*synaug\[neighbours\]"):
        nearest_features(*many_images)
