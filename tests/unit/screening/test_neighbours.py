"""Nearest neighbours by features are those of a plain loop."""

import numpy as np
import pytest

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
