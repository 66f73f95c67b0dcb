import numpy as np
import pytest

from tests.reference import contour_hierarchy as slow
from wss.ops.arcs import straight_directions, trace_arcs

ISLAND = np.pad(np.ones((2, 3), int), 2)


def _regions(size, count, seed=0):
    """Cells around random points, with an island in one."""
    rng = np.random.default_rng(seed)
    points = rng.random((count, 2)) * size
    y, x = np.mgrid[: size[0], : size[1]]
    regions = ((y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2).argmin(-1)
    if min(size) > 6:
        regions[3:5, 2:5] = count
    return regions


CASES = [
    _regions((25, 31), 9),
    _regions((18, 40), 25, seed=1),
    np.random.default_rng(2).integers(0, 3, (9, 11)),  # corners where four sides meet, of two regions too
    ISLAND,
    np.zeros((4, 5), int),
    np.zeros((1, 1), int),
    np.array([[0, 1, 2]]),
    np.array([[0], [1]]),
]


def _path(sides, arc):
    chosen = np.nonzero(sides.arc == arc)[0]
    return [tuple(p) for p in sides.start[chosen].tolist()] + [tuple(sides.end[chosen[-1]].tolist())]


@pytest.mark.parametrize("regions", CASES)
def test_arcs_are_those_of_the_definition(regions):
    sides = trace_arcs(regions)
    expected = slow.sides(regions)
    found = {}
    for (a, b), start, end, arc in zip(sides.pixels, sides.start, sides.end, sides.arc, strict=True):
        side = tuple(sorted((tuple(start.tolist()), tuple(end.tolist()))))
        assert (regions.ravel()[a], regions.ravel()[b]) == expected[side]
        found[side] = int(arc)
    assert len(found) == len(sides.arc)
    assert set(found) == set(expected)
    assert {frozenset(s for s in found if found[s] == arc) for arc in set(found.values())} == slow.arcs(regions)


@pytest.mark.parametrize("regions", CASES)
def test_sides_follow_each_other_along_an_arc(regions):
    sides = trace_arcs(regions)
    assert (np.diff(sides.arc) >= 0).all()
    inside = np.diff(sides.arc) == 0
    assert (sides.end[:-1][inside] == sides.start[1:][inside]).all()


@pytest.mark.parametrize("regions", CASES)
@pytest.mark.parametrize(("deviation", "least_px"), [(0.1, 1.0), (0.05, 0.0), (0.3, 2.0)])
def test_directions_are_those_of_the_recursion(regions, deviation, least_px):
    sides = trace_arcs(regions)
    found = straight_directions(sides, deviation=deviation, least_px=least_px)
    for arc in set(sides.arc.tolist()):
        expected = slow.directions(_path(sides, arc), deviation, least_px)
        np.testing.assert_allclose(found[sides.arc == arc], expected, atol=1e-12)


def test_a_stair_is_straight():
    regions = np.tri(30, 31, dtype=int)
    found = straight_directions(trace_arcs(regions))
    slope = np.abs(found[:, 0] / found[:, 1])
    np.testing.assert_allclose(slope, 1, atol=0.04)


def test_a_corner_divides():
    regions = np.zeros((20, 20), int)
    regions[:10, :10] = 1
    sides = trace_arcs(regions)
    found = np.abs(straight_directions(sides))
    vertical = sides.start[:, 1] == sides.end[:, 1]
    np.testing.assert_allclose(found[vertical], [[1, 0]] * 10)
    np.testing.assert_allclose(found[~vertical], [[0, 1]] * 10)


def test_memory_order_does_not_matter():
    regions = CASES[0]
    one, two = trace_arcs(regions), trace_arcs(np.asfortranarray(regions))
    assert (one.start == two.start).all()
    assert (one.arc == two.arc).all()
