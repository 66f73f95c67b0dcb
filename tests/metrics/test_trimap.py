from itertools import pairwise

import numpy as np
import pytest

from tests.reference.metrics_from_definitions import boundary_distance_by_pairs
from wss.errors import UsageError
from wss.metrics import boundary_distance, confusion_matrix, trimap


def _truth(size=(13, 17), seed=0):
    coarse = np.random.default_rng(seed).choice([0, 1, 2, 255], (3, 3), p=[0.5, 0.2, 0.2, 0.1])
    return coarse[np.arange(size[0])[:, None] * 3 // size[0], np.arange(size[1]) * 3 // size[1]].astype(np.uint8)


def test_two_regions_by_hand():
    truth = np.array([[0, 0, 0, 1, 1]], np.uint8)
    distance = boundary_distance(truth)
    assert distance.tolist() == [[2, 1, 0, 0, 1]]
    assert trimap(truth, distance, 1).tolist() == [[255, 255, 0, 1, 255]]
    assert trimap(truth, distance, 2).tolist() == [[255, 0, 0, 1, 1]]
    assert trimap(truth, distance, 3).tolist() == truth.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_reference(seed):
    truth = _truth(seed=seed)
    np.testing.assert_allclose(boundary_distance(truth), boundary_distance_by_pairs(truth))
    np.testing.assert_allclose(boundary_distance(truth.T[::-1]), boundary_distance(truth).T[::-1])


def test_a_void_strip_is_the_boundary_and_does_not_count():
    truth = np.array([[0, 0, 255, 255, 255, 1, 1]], np.uint8)
    assert trimap(truth, boundary_distance(truth), 1).tolist() == [[255, 0, 255, 255, 255, 1, 255]]


def test_bands_widen_to_the_whole_image():
    truth = _truth()
    distance = boundary_distance(truth)
    bands = [trimap(truth, distance, width) != 255 for width in range(1, 20)]
    assert all((narrow <= wide).all() for narrow, wide in pairwise(bands))
    assert (trimap(truth, distance, 1000) == truth).all()


@pytest.mark.parametrize("truth", [np.zeros((4, 5), np.uint8), np.zeros((1, 1), np.uint8), np.zeros((0, 3), np.uint8)])
def test_without_boundaries_no_pixel_counts(truth):
    band = trimap(truth, boundary_distance(truth), 1000)
    assert (band == 255).all()
    assert confusion_matrix(band, truth, 2).sum() == 0


def test_a_volume_is_refused():
    with pytest.raises(UsageError, match=r"\(2, 3, 3\)"):
        boundary_distance(np.zeros((2, 3, 3), np.uint8))
