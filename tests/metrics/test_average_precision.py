import math

import numpy as np
import pytest

from wss.metrics import average_precision


def test_by_hand():
    present = np.array([True, False, True, False])
    assert average_precision(np.array([4.0, 3.0, 2.0, 1.0]), present) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.array([4.0, 1.0, 3.0, 2.0]), present) == 1
    assert average_precision(np.array([1.0, 4.0, 2.0, 3.0]), present) == pytest.approx((2 / 4 + 1 / 3) / 2)


def test_order_does_not_matter_even_among_equals():
    rng = np.random.default_rng(0)
    scores, present = rng.integers(0, 4, 30).astype(float), rng.random(30) < 0.4
    order = rng.permutation(30)
    assert average_precision(scores[order], present[order]) == pytest.approx(average_precision(scores, present))
    assert average_precision(np.zeros(30), present) == pytest.approx(present.mean())


def test_a_class_that_no_image_has():
    assert math.isnan(average_precision(np.zeros(3), np.zeros(3, bool)))
