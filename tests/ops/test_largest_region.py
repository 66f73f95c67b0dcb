from collections import deque

import numpy as np
import pytest

from wss.ops.largest_region import outside_largest, regions_of


def reference(labels, background):
    """Regions by flooding, one voxel after the other; those smaller than the largest."""
    left = {tuple(place) for place in np.argwhere((labels != background) & (labels != 255))}
    regions = []
    while left:
        first = min(left)
        left.discard(first)
        region, queue = [first], deque([first])
        while queue:
            place = queue.popleft()
            for axis in range(labels.ndim):
                for step in (-1, 1):
                    near = tuple(p + step * (a == axis) for a, p in enumerate(place))
                    if near in left:
                        left.discard(near)
                        region.append(near)
                        queue.append(near)
        regions.append(region)
    outside = np.zeros(labels.shape, bool)
    best = max(regions, key=len, default=None)
    for region in regions:
        if region is not best:
            outside[tuple(np.transpose(region))] = True
    return outside


@pytest.mark.parametrize("shape", [(1, 1), (9, 13), (3, 8, 7)])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_flooding_finds(shape, seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 0, 0, 1, 2, 255], np.uint8), shape)
    np.testing.assert_array_equal(outside_largest(labels, 0), reference(labels, 0))


def test_classes_are_one_foreground_and_slices_are_connected():
    labels = np.zeros((2, 3, 8), np.uint8)
    labels[0, 0, :3] = 1
    labels[1, 0, 2:4] = 2  # below the end of the first
    labels[0, 2, 4:8] = 3
    outside = outside_largest(labels, 0)
    assert outside[0, 2, 4:8].all() and outside.sum() == 4
    assert len(np.unique(regions_of(labels, 0))) == 3


def test_corners_do_not_connect_and_nothing_stays_nothing():
    labels = np.array([[1, 0], [0, 1]], np.uint8)
    assert outside_largest(labels, 0).tolist() == [[False, False], [False, True]]
    assert not outside_largest(np.zeros((4, 4), np.uint8), 0).any()
    assert outside_largest(np.array([[3, 0, 3, 3]], np.uint8), 3).sum() == 0
