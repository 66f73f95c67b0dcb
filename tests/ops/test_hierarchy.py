import numpy as np
import pytest

from tests.ops.test_arcs import CASES
from tests.reference import contour_hierarchy as slow
from wss.ops.arcs import trace_arcs
from wss.ops.hierarchy import Hierarchy, agglomerate
from wss.superpixels import in_reading_order


def _built(regions, values=None, seed=0):
    """A hierarchy with random strengths of sides, or those given by pairs; and the strengths by side."""
    regions = in_reading_order(regions)
    sides = trace_arcs(regions)
    values = np.random.default_rng(seed).random(len(sides.arc)) if values is None else np.full(len(sides.arc), values)
    hierarchy = agglomerate(regions, regions.ravel()[sides.pixels], values)
    corners = zip(sides.start.tolist(), sides.end.tolist(), strict=True)
    strength = {tuple(sorted((tuple(a), tuple(b)))): v for (a, b), v in zip(corners, values.tolist(), strict=True)}
    return hierarchy, strength


def _same(a, b):
    return (in_reading_order(a) == in_reading_order(b)).all()


def _connected(regions):
    from skimage.measure import label

    return label(regions, connectivity=1, background=-1)


MAPS = [_connected(case) for case in CASES]


@pytest.mark.parametrize("regions", MAPS)
def test_merges_are_those_of_the_definition(regions):
    hierarchy, strength = _built(regions)
    expected = slow.merges(hierarchy.regions, strength)
    np.testing.assert_allclose(hierarchy.heights, [height for height, _ in expected])
    count = int(hierarchy.regions.max()) + 1
    assert len(expected) == count - 1
    for number, (height, after) in enumerate(expected, 1):
        assert _same(hierarchy.into(count - number), after)
        assert _same(hierarchy.at(height + 1e-9), after)


@pytest.mark.parametrize("regions", MAPS)
def test_the_contour_map_is_the_threshold_at_which_regions_merge(regions):
    hierarchy, _ = _built(regions, seed=3)
    contours = hierarchy.saliency()
    height, width = hierarchy.regions.shape
    assert contours.shape == (2 * height - 1, 2 * width - 1)
    assert (contours[::2, ::2] == 0).all()
    for threshold in [0.0, *hierarchy.heights.tolist()]:
        parted = hierarchy.at(threshold)
        assert ((contours[::2, 1::2] > threshold) == (parted[:, 1:] != parted[:, :-1])).all()
        assert ((contours[1::2, ::2] > threshold) == (parted[1:] != parted[:-1])).all()
    if min(height, width) > 1:
        around = np.stack([contours[:-2:2, 1::2], contours[2::2, 1::2], contours[1::2, :-2:2], contours[1::2, 2::2]])
        assert (contours[1::2, 1::2] == around.max(0)).all()


def test_coarser_regions_are_unions_of_finer_ones():
    hierarchy, _ = _built(MAPS[1])
    assert (np.diff(hierarchy.heights) >= 0).all()
    finer = hierarchy.at(-1)
    assert _same(finer, hierarchy.regions)
    for threshold in np.linspace(0, 1, 12):
        coarser = hierarchy.at(threshold)
        assert coarser.dtype == np.int32
        assert set(coarser.ravel().tolist()) == set(range(coarser.max() + 1))
        parents = {(a, b) for a, b in zip(finer.ravel().tolist(), coarser.ravel().tolist(), strict=True)}
        assert len(parents) == finer.max() + 1  # each finer region lies in one coarser region
        finer = coarser


def test_a_number_of_regions():
    hierarchy, _ = _built(MAPS[1])
    leaves = int(hierarchy.regions.max()) + 1
    for number in (1, 2, leaves // 2, leaves):
        assert hierarchy.into(number).max() + 1 == number
    assert hierarchy.into(leaves + 5).max() + 1 == leaves
    assert hierarchy.into(0).max() == 0
    assert (hierarchy.leaf_ids(0.3)[hierarchy.regions] == hierarchy.at(0.3)).all()


def test_the_mean_goes_by_length():
    """Boundaries of .1 between 0 and 1, and with 2 below them of .2 (three sides long) and .6 (one)."""
    regions = np.array([[0, 0, 0, 1]] * 2 + [[2, 2, 2, 2]], np.int32)
    sides = np.array([[0, 1], [1, 0], [0, 2], [2, 0], [0, 2], [1, 2]])
    hierarchy = agglomerate(regions, sides, np.array([0.05, 0.15, 0.2, 0.1, 0.3, 0.6]))
    assert hierarchy.children.tolist() == [[0, 1], [3, 2]]
    np.testing.assert_allclose(hierarchy.heights, [0.1, (3 * 0.2 + 0.6) / 4])
    contours = hierarchy.saliency()
    np.testing.assert_allclose(contours[0], [0, 0, 0, 0, 0, 0.1, 0])
    np.testing.assert_allclose(contours[3], 0.3)


def test_mirroring_and_transposing_change_nothing():
    regions = in_reading_order(MAPS[0])
    values = np.random.default_rng(5).random(100 * 100)

    def cut(shown, back):
        """Strength depends on the pair of regions of the original map alone."""
        names = np.zeros(int(shown.max()) + 1, int)
        names[in_reading_order(shown)] = shown
        new = in_reading_order(shown)
        sides = trace_arcs(new)
        strength = values[np.sort(shown.ravel()[sides.pixels], 1) @ [100, 1]]
        found = agglomerate(new, new.ravel()[sides.pixels], strength)
        return back(found.into(4)), found.heights

    expected, heights = cut(regions, lambda a: a)
    for turn in (lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: a.T):
        turned, same = cut(np.ascontiguousarray(turn(regions)), turn)
        assert _same(turned, expected)
        np.testing.assert_allclose(same, heights)


def test_equal_strengths_merge_deterministically():
    hierarchy, _ = _built(MAPS[1], values=0.25)
    again, _ = _built(MAPS[1], values=0.25)
    assert (hierarchy.children == again.children).all()
    assert (hierarchy.heights == 0.25).all()
    assert hierarchy.at(0.25).max() == 0
    assert _same(hierarchy.at(0.2), hierarchy.regions)


def test_one_region():
    hierarchy, _ = _built(np.zeros((3, 4), int))
    assert isinstance(hierarchy, Hierarchy)
    assert hierarchy.at(0.5).tolist() == hierarchy.into(9).tolist() == np.zeros((3, 4)).tolist()
    assert not hierarchy.saliency().any()
