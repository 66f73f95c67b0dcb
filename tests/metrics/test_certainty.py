import numpy as np
import pytest

from wss.metrics import certainty_levels, confidence_of


def test_levels_by_hand():
    doubts = [1.0, 0.51, 0.5, 0.25, 1e-3, 2.0**-31.75, 1e-300, 0.0]
    assert certainty_levels(doubts).tolist() == [0, 7, 8, 16, 79, 254, 254, 255]
    assert certainty_levels([1 + 1e-7, -1e-9]).tolist() == [0, 255]  # rounding of sums
    assert certainty_levels(np.zeros((0, 3))).shape == (0, 3)


def test_levels_rise_with_certainty_and_tell_what_is_nearly_certain_apart():
    doubts = np.geomspace(1e-9, 1, 500)
    levels = certainty_levels(doubts).astype(int)
    assert (np.diff(levels) <= 0).all()
    assert len(np.unique(levels)) > 230
    assert levels.dtype.kind == "i"


def test_the_confidence_of_a_level_is_the_least_of_its_labels():
    doubts = np.geomspace(2.0**-31, 1, 1001)
    levels = certainty_levels(doubts)
    least = confidence_of(levels)
    assert (1 - least >= doubts * (1 - 1e-6)).all()
    assert (1 - confidence_of(levels + 1) < doubts * (1 + 1e-6)).all()
    assert confidence_of([8, 255]).tolist() == pytest.approx([0.5, 1.0])
