import cv2
import numpy as np
import pytest
from scipy.ndimage import label

from tests.reference import contour_hierarchy as slow
from wss.ops.arcs import straight_directions, trace_arcs
from wss.superpixels import Ucm, contour_hierarchy, in_reading_order


def _smooth(size, seed=0, sigma=1.5):
    """A random map in 0..1 without two equal values."""
    noise = np.random.default_rng(seed).random(size).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return (soft - soft.min()) / max(float(np.ptp(soft)), 1e-6)


def _lines(size=(60, 80), faint=0.4, strong=0.9):
    """Four quarters: a strong line from top to bottom, a faint one from left to right."""
    edges = np.zeros(size, np.float32)
    edges[size[0] // 2] = faint
    edges[:, size[1] // 2] = strong
    return edges + np.float32(0.05) * _smooth(size)


def _cut(edges, **settings):
    return Ucm(**settings).segment(np.zeros((*edges.shape, 3), np.uint8), edges)


def _same(a, b):
    return (in_reading_order(a) == in_reading_order(b)).all()


def test_lines_part_regions_up_to_their_strength():
    edges = _lines()
    four, two, one = (_cut(edges, threshold=t) for t in (0.15, 0.4, 0.9))
    assert (four.max(), two.max(), one.max()) == (3, 1, 0)
    assert len(np.unique(two[:, :38])) == len(np.unique(two[:, 42:])) == 1
    assert two[0, 0] != two[0, -1]
    for quarter in (four[:28, :38], four[32:, :38], four[:28, 42:], four[32:, 42:]):
        assert len(np.unique(quarter)) == 1
    assert _same(_cut(edges, segments=2, threshold=1.0), two)
    assert _same(_cut(edges, segments=4), four)
    assert _cut(edges, segments=10**6).max() > 20


@pytest.mark.parametrize("oriented", [True, False])
def test_heights_are_those_of_the_definition(oriented):
    """From the basins on, side by side and merge by merge."""
    edges = _smooth((21, 26), seed=4)
    hierarchy = contour_hierarchy(edges, oriented=oriented)
    energy = cv2.GaussianBlur(edges**2, (0, 0), 1.0, borderType=cv2.BORDER_REPLICATE)
    padded = np.pad(energy.astype(np.float64), 1, mode="edge")
    tensor = np.zeros((*edges.shape, 2, 2))
    for y, x in np.ndindex(edges.shape):
        near = padded[y : y + 3, x : x + 3]
        weights = np.array([3, 10, 3]) / 32
        gradient = np.array([weights @ (near[2] - near[0]), weights @ (near[:, 2] - near[:, 0])])
        tensor[y, x] = np.outer(gradient, gradient)
    for i, j in np.ndindex(2, 2):
        plane = np.ascontiguousarray(tensor[..., i, j])
        tensor[..., i, j] = cv2.GaussianBlur(plane, (0, 0), 2.0, borderType=cv2.BORDER_REPLICATE)
    sides = trace_arcs(hierarchy.regions)
    strength = {}
    for pixels, start, end, direction in zip(
        sides.pixels, sides.start, sides.end, straight_directions(sides), strict=True
    ):
        value = energy.ravel()[pixels].mean()
        if oriented:
            moments = tensor.reshape(-1, 2, 2)[pixels].mean(0)
            normal = np.array([-direction[1], direction[0]])
            value *= np.sqrt(normal @ moments @ normal / np.linalg.eigvalsh(moments)[-1])
        strength[tuple(sorted((tuple(start.tolist()), tuple(end.tolist()))))] = value
    expected = slow.merges(hierarchy.regions, strength)
    np.testing.assert_allclose(hierarchy.heights**2, [height for height, _ in expected], rtol=1e-4)
    for number, (_, after) in enumerate(expected, 1):
        assert _same(hierarchy.into(len(expected) + 1 - number), after)


def test_each_basin_is_connected_and_has_one_minimum():
    edges = _smooth((40, 50), seed=6)
    basins = contour_hierarchy(edges).regions
    energy = cv2.GaussianBlur(edges**2, (0, 0), 1.0, borderType=cv2.BORDER_REPLICATE)
    padded = np.pad(energy, 1, constant_values=np.inf)
    shifted = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    minima = basins[(energy < np.min(shifted, axis=0))]
    assert sorted(minima.tolist()) == list(range(basins.max() + 1))
    for basin in range(basins.max() + 1):
        assert label(basins == basin)[1] == 1


def test_a_boundary_has_the_strength_of_its_edge():
    """A line three pixels wide stays as strong as it was where the flood meets, on its crest."""
    edges = np.zeros((40, 41), np.float32)
    edges[:, 19:22] = 0.8
    hierarchy = contour_hierarchy(edges)
    assert len(hierarchy.heights) == 1
    assert 0.55 < hierarchy.heights[0] < 0.8


def test_a_boundary_across_an_edge_is_weak():
    """A faint wall crosses a strong, short edge; only the edges along it count for it."""
    edges = np.zeros((60, 60), np.float32)
    edges[30] = 0.3  # the wall
    edges[24:37, 28:33] = 0.9  # across it
    soft = cv2.GaussianBlur(edges, (0, 0), 1.5)
    plain, oriented = (contour_hierarchy(soft, oriented=o).heights.max() for o in (False, True))
    assert oriented < plain
    straight = np.zeros((60, 60), np.float32)
    straight[30] = 0.6
    plain, oriented = (contour_hierarchy(straight, oriented=o).heights.max() for o in (False, True))
    assert oriented == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize("size", [(37, 53), (24, 24)])
def test_mirroring_and_transposing_turn_the_result(size):
    edges = _smooth(size)
    expected = _cut(edges, segments=8)
    for turn in (lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: a.T):
        assert _same(_cut(turn(edges).copy(), segments=8), turn(expected))


def test_scaling_the_strength_scales_the_heights():
    edges = _smooth((30, 40))
    whole, half = contour_hierarchy(edges), contour_hierarchy(edges / 2)
    np.testing.assert_allclose(half.heights, whole.heights / 2, rtol=1e-3)
    assert (half.at(0.2) == whole.at(0.4)).all()
    assert whole.heights.max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 30), (31, 1), (2, 2), (3, 3)])
def test_tiny_images(size):
    for edges in (np.zeros(size, np.float32), _lines(size), np.ones(size, np.float32)):
        found = _cut(edges, threshold=0.0)
        assert found.shape == size
        assert found.min() == 0


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_constant_map_is_one_region(value):
    assert not _cut(np.full((12, 13), value, np.float32), threshold=0.0).any()


def test_the_lower_the_threshold_the_finer():
    edges = _smooth((40, 50))
    finer = _cut(edges, threshold=0.0)
    for threshold in (0.2, 0.4, 0.6, 0.8, 1.0):
        coarser = _cut(edges, threshold=threshold)
        assert len(np.unique(finer.astype(np.int64) * 10**6 + coarser)) == finer.max() + 1
        finer = coarser
    assert finer.max() == 0
