"""Where the steps of a random walk lead, on matrices whose answer is known."""

import numpy as np
import pytest

from wss.errors import UsageError
from wss.metrics import step_shares

CLASSES = np.array([0, 0, 0, 1, 1, 2])


def test_uniform_steps_reach_everything_and_know_no_classes():
    shares = step_shares(np.full((6, 6), -np.log(6)), CLASSES)
    assert shares.stays == pytest.approx(1 / 6)
    assert shares.reach == pytest.approx(1)
    assert shares.alike == pytest.approx((2 / 5 + 1 / 5) / 2)  # the class of one position does not count
    assert shares.chance == pytest.approx(shares.alike)


def test_where_almost_nothing_moves_the_logarithms_still_tell_where_to():
    same = CLASSES[:, None] == CLASSES
    logs = np.where(np.eye(6, dtype=bool), 0.0, np.where(same, -1000.0, -1010.0))
    shares = step_shares(logs.astype(np.float32), CLASSES)
    assert shares.stays == 1
    assert shares.reach == pytest.approx(1 / 6)
    assert shares.alike > 0.999
    assert shares.chance == pytest.approx(0.3)


def test_a_row_counts_with_its_own_odds():
    transition = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]])
    shares = step_shares(np.log(transition), np.array([4, 4, 7]))
    assert shares.stays == pytest.approx(0.6)
    assert shares.alike == pytest.approx((0.3 / 0.5 + 0.1 / 0.2) / 2)
    entropy = -(transition * np.log(transition)).sum(1)
    assert shares.reach == pytest.approx(np.exp(entropy).mean() / 3)


def test_steps_that_are_impossible_have_no_entropy():
    with np.errstate(divide="ignore"):
        shares = step_shares(np.log(np.eye(4)[[1, 0, 3, 2]]), np.array([0, 0, 1, 1]))
    assert (shares.stays, shares.reach, shares.alike) == (0, 0.25, 1)


@pytest.mark.parametrize("classes", [[3], [3, 5]])
def test_where_no_class_has_two_positions_nothing_is_alike(classes):
    shares = step_shares(np.full((len(classes),) * 2, -np.log(len(classes))), np.array(classes))
    assert (shares.alike, shares.chance) == (0, 0)


def test_other_shapes_are_refused():
    with pytest.raises(UsageError, match=r"got \(6, 6\) and \(5,\)"):
        step_shares(np.zeros((6, 6)), CLASSES[:5])
