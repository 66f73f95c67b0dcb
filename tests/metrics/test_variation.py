import numpy as np
import pytest

from wss.errors import UsageError
from wss.metrics import relative_variation, relative_variations


def test_by_hand():
    assert relative_variation(np.array([1.0, -2.0, 0.0]), np.array([1.0, 1.0, 0.5])) == pytest.approx(3.5 / 5.5)


def test_limits():
    f = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert relative_variation(f, f) == 0
    assert relative_variation(f, -f) == pytest.approx(1)
    assert relative_variation(f, 0 * f) == pytest.approx(1)
    assert relative_variation(0 * f, 0 * f) == 0
    assert relative_variation(f, 3 * f) == pytest.approx(0.5)


def test_variations_of_positions_are_those_of_their_channels():
    rng = np.random.default_rng(0)
    expected, found = rng.normal(size=(2, 3, 4, 5))
    each = relative_variations(expected, found)
    assert each.shape == (3, 4)
    assert each[1, 2] == pytest.approx(relative_variation(expected[1, 2], found[1, 2]))
    assert (relative_variations(0 * expected, 0 * found) == 0).all()


def test_shapes_must_agree():
    with pytest.raises(UsageError, match="one shape"):
        relative_variation(np.zeros(2), np.zeros(3))
    with pytest.raises(UsageError, match="one shape"):
        relative_variations(np.zeros(2), np.zeros(3))
