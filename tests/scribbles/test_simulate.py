from __future__ import annotations

import cv2
import numpy as np
import pytest

from wss.errors import UsageError
from wss.scribbles import rasterise, simulate


def scene(seed: int, shape: tuple[int, int] = (150, 200)) -> np.ndarray:
    """Blobs of four classes, void along some borders: shapes as irregular as masks get."""
    rng = np.random.default_rng(seed)
    fields = [cv2.GaussianBlur(rng.normal(size=shape), (0, 0), 14) for _ in range(4)]
    mask = np.argmax(fields, 0).astype(np.uint8)
    edges = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    mask[edges & (np.arange(shape[1]) > shape[1] // 2)] = 255
    return mask


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("width", [None, 1, 4])
def test_strokes_stay_in_their_regions(seed: int, width: int | None) -> None:
    mask = scene(seed)
    strokes = simulate(mask, seed, width=width)
    for stroke in strokes:
        drawn = rasterise([stroke], mask.shape) != 255
        assert drawn.any()
        assert (mask[drawn] == stroke.label).all()
        regions = cv2.connectedComponents((mask == stroke.label).astype(np.uint8), connectivity=8)[1]
        assert len(np.unique(regions[drawn])) == 1
        assert 1 <= stroke.width <= (width or 1)


@pytest.mark.parametrize("seed", range(8))
def test_every_class_gets_a_stroke_and_coverage_is_like_a_persons(seed: int) -> None:
    mask = scene(seed)
    raster = rasterise(simulate(mask, seed), mask.shape)
    assert set(np.unique(raster)) - {255} == set(np.unique(mask)) - {255}
    assert 0.005 < (raster != 255).mean() < 0.04


def test_strokes_keep_away_from_the_boundary_of_wide_regions() -> None:
    mask = np.zeros((120, 160), np.uint8)
    cv2.ellipse(mask, (80, 60), (55, 30), 20, 0, 360, 1, -1)
    depth = cv2.distanceTransform((mask == 1).astype(np.uint8), cv2.DIST_L2, 5)
    for seed in range(20):
        drawn = rasterise([s for s in simulate(mask, seed) if s.label == 1], mask.shape) == 1
        assert depth[drawn].min() > 2
        assert depth[drawn].mean() > 8


def test_elongated_regions_are_followed_along_their_length() -> None:
    mask = np.zeros((60, 200), np.uint8)
    mask[25:35, 10:190] = 1
    for seed in range(10):
        (stroke,) = [s for s in simulate(mask, seed) if s.label == 1]
        assert np.ptp(stroke.points[:, 0]) > 80


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2), (3, 3)])
def test_tiny_masks_get_a_scribble(shape: tuple[int, int]) -> None:
    mask = np.full(shape, 3, np.uint8)
    raster = rasterise(simulate(mask, 0), shape)
    assert (raster == 3).any()


def test_a_region_of_one_pixel_gets_a_point_if_its_class_has_no_larger_one() -> None:
    mask = np.zeros((50, 60), np.uint8)
    mask[10, 10] = 1
    mask[30, 40] = 2
    mask[20:28, 20:28] = 2
    strokes = simulate(mask, 0, min_area=5)
    (alone,) = [s for s in strokes if s.label == 1]
    assert alone.points.tolist() == [[10.0, 10.0]]
    assert len([s for s in strokes if s.label == 2]) == 1
    assert len([s for s in simulate(mask, 0, min_area=1) if s.label == 2]) == 2


def test_void_gets_nothing() -> None:
    assert simulate(np.full((20, 20), 255, np.uint8), 0) == []


def test_large_regions_get_one_to_three_strokes() -> None:
    counts = {len(simulate(np.zeros((96, 128), np.uint8), seed)) for seed in range(30)}
    assert counts <= {1, 2, 3} and len(counts) > 1


def test_the_seed_decides() -> None:
    mask = scene(1)
    first, second = simulate(mask, 5), simulate(mask, 5)
    assert [s.points.tolist() for s in first] == [s.points.tolist() for s in second]
    assert [s.points.tolist() for s in first] != [s.points.tolist() for s in simulate(mask, 6)]


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(UsageError, match="uint8"):
        simulate(np.zeros((5, 5), np.int64), 0)
    with pytest.raises(UsageError, match="brush"):
        simulate(np.zeros((5, 5), np.uint8), 0, width=0)
