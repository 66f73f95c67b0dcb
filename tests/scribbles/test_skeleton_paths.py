from __future__ import annotations

import cv2
import numpy as np
import pytest

from wss.scribbles import Stroke, rasterise, skeleton_paths


def test_a_thin_line_comes_back_as_its_ends_and_corners() -> None:
    raster = rasterise([Stroke(2, np.array([[2.0, 3.0], [12.0, 3.0]]))], (8, 20))
    (stroke,) = skeleton_paths(raster)
    assert sorted(map(tuple, stroke.points.tolist())) == [(2.0, 3.0), (12.0, 3.0)]
    assert (stroke.label, stroke.width) == (2, 1)


@pytest.mark.parametrize("width", [1, 3, 5])
def test_a_thick_curve_comes_back_along_its_middle(width: int) -> None:
    t = np.linspace(0, np.pi, 50)
    original = Stroke(1, np.stack([20 + 50 * t, 50 + 30 * np.sin(t)], 1), width)
    raster = rasterise([original], (100, 200))
    (stroke,) = skeleton_paths(raster)
    assert abs(stroke.width - width) <= 1
    again = rasterise([stroke], raster.shape, width=width)
    overlap = ((again == 1) & (raster == 1)).sum() / ((again == 1) | (raster == 1)).sum()
    assert overlap > 0.7  # the ends lose half a brush, the edges some pixels
    middle = rasterise([stroke], raster.shape, width=1) == 1
    assert (raster[middle] == 1).all()


def test_a_loop_comes_back_as_one_closed_stroke() -> None:
    raster = np.full((60, 60), 255, np.uint8)
    cv2.circle(raster, (30, 30), 20, 4, 1)
    (stroke,) = skeleton_paths(raster)
    assert np.abs(stroke.points[0] - stroke.points[-1]).max() <= 1
    redrawn = rasterise([stroke], raster.shape) == 4
    assert (redrawn & (raster == 4)).sum() > 0.95 * (raster == 4).sum() * redrawn.sum() / max(redrawn.sum(), 1)
    assert (raster[redrawn] == 4).mean() > 0.95


def test_a_crossing_comes_back_as_arms_that_cover_it() -> None:
    raster = rasterise(
        [Stroke(0, np.array([[5.0, 30.0], [75.0, 30.0]]), 3), Stroke(0, np.array([[40.0, 2.0], [40.0, 58.0]]), 3)],
        (60, 80),
    )
    strokes = skeleton_paths(raster)
    assert len(strokes) == 3
    redrawn = rasterise(strokes, raster.shape, width=3)
    assert ((redrawn == 0) & (raster == 0)).sum() > 0.9 * (raster == 0).sum()


def test_single_pixels_and_blocks_become_one_point_each() -> None:
    raster = np.full((20, 20), 255, np.uint8)
    raster[3, 4] = 0
    raster[19, 0] = 7
    first, second = skeleton_paths(raster)
    assert first.points.tolist() == [[4.0, 3.0]] and first.label == 0
    assert second.points.tolist() == [[0.0, 19.0]] and second.label == 7
    raster[8:11, 8:11] = 5
    assert [s.label for s in skeleton_paths(raster)] == [0, 5, 7]


def test_nothing_gives_nothing() -> None:
    assert skeleton_paths(np.full((4, 4), 255, np.uint8)) == []


def test_every_component_is_found_in_random_rasters() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        blobs = cv2.GaussianBlur(rng.normal(size=(30, 40)), (0, 0), rng.uniform(0.3, 3))
        raster = np.where(blobs > np.quantile(blobs, 0.75), 1, 255).astype(np.uint8)
        count, ids = cv2.connectedComponents((raster == 1).astype(np.uint8), connectivity=8)
        drawn = rasterise(skeleton_paths(raster), raster.shape, width=1) == 1
        assert (raster[drawn] == 1).all()
        assert set(np.unique(ids[drawn])) == set(range(1, count))
