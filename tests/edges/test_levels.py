import numpy as np

from wss.edges import edge_levels, edge_strengths


def test_every_level_comes_back():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(edge_levels(edge_strengths(levels)), levels)


def test_strengths_are_rounded_to_the_nearest_level():
    edges = np.linspace(0, 1, 1001, dtype=np.float32).reshape(7, 143)
    strengths = edge_strengths(edge_levels(edges))
    assert strengths.dtype == np.float32 and strengths.shape == edges.shape
    assert np.abs(strengths - edges).max() <= 0.5 / 255 + 1e-6
    assert strengths.min() == 0 and strengths.max() == 1
