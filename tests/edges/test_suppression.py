import numpy as np
import pytest

from wss.edges import suppress_non_maxima
from wss.errors import DataError


def ridge(angle_deg, size=64, width=3.0):
    y, x = np.mgrid[:size, :size] - size / 2
    across = x * np.cos(np.deg2rad(angle_deg)) + y * np.sin(np.deg2rad(angle_deg))
    return np.exp(-(across**2) / (2 * width**2)).astype(np.float32), across


@pytest.mark.parametrize("angle", [0, 20, 45, 70, 90, 135, 160])
def test_a_ridge_of_any_direction_becomes_a_thin_line_on_its_crest(angle):
    edges, across = ridge(angle)
    thin = suppress_non_maxima(edges)
    assert thin.dtype == np.float32
    inside = np.s_[8:-8, 8:-8]
    kept = thin[inside] > 0.5
    assert kept.sum() >= 45  # a connected line across 48 pixels
    assert np.abs(across[inside][kept]).max() < 1.2


def test_strengths_stay_and_fall_towards_the_border():
    edges, _ = ridge(0)
    thin = suppress_non_maxima(edges, smooth=False, border_px=4)
    assert np.allclose(thin[10:-10].max(1), edges.max())
    assert thin[0].max() == 0
    assert 0 < thin[2].max() < 0.6


def test_every_value_is_old_or_zero_without_smoothing_and_border():
    edges = np.random.default_rng(0).random((30, 41)).astype(np.float32)
    thin = suppress_non_maxima(edges, smooth=False, border_px=0)
    assert ((thin == edges) | (thin == 0)).all()
    assert 0 < (thin > 0).mean() < 0.7


def test_an_empty_map_stays_empty_and_labels_are_refused():
    assert not suppress_non_maxima(np.zeros((9, 9), np.float32)).any()
    with pytest.raises(DataError, match="float"):
        suppress_non_maxima(np.zeros((9, 9), np.uint8))
