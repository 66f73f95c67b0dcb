from __future__ import annotations

import numpy as np
import pytest

from wss.errors import UsageError
from wss.viz import signed_map


def test_signs_are_colours_and_sizes_are_brightness():
    painted = signed_map(np.array([[-4.0, -2.0, 0.0], [1.0, 4.0, 3.0]]), percentile=100)
    expected = [[(255, 0, 0), (128, 0, 0), (0, 0, 0)], [(64, 64, 0), (255, 255, 0), (191, 191, 0)]]
    assert painted.dtype == np.uint8
    assert painted.tolist() == [[list(colour) for colour in row] for row in expected]


def test_a_few_large_values_do_not_darken_the_others():
    values = np.full((20, 20), -1e-6)
    values[0, 0] = 5.0
    painted = signed_map(values)
    assert (painted[1:] == (255, 0, 0)).all()
    assert painted[0, 0].tolist() == [255, 255, 0]


def test_nothing_is_black_and_nearly_nothing_is_seen():
    assert not signed_map(np.zeros((3, 4))).any()
    lonely = np.zeros((20, 20))
    lonely[3, 3] = -2.0
    assert signed_map(lonely)[3, 3].tolist() == [255, 0, 0]


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((2, 2, 3)), np.array([[np.nan]])], ids=str)
def test_refuses_what_is_no_map(values):
    with pytest.raises(UsageError, match="expected finite numbers"):
        signed_map(values)
