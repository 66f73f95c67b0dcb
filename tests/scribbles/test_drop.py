from __future__ import annotations

import numpy as np
import pytest

from wss.errors import UsageError
from wss.scribbles import Stroke, connected_regions, drop, rasterise

GRID = [Stroke(i % 5, np.array([[4.0 * (i % 40), 4.0 * (i // 40)]])) for i in range(800)]


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.5, 0.9])
def test_strokes_are_dropped_as_often_as_asked(probability: float) -> None:
    lost = 1 - len(drop(GRID, probability, 5)) / len(GRID)
    assert lost == pytest.approx(probability, abs=4 * np.sqrt(probability * (1 - probability) / len(GRID)))


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_components_are_dropped_as_often_as_asked(probability: float) -> None:
    raster = rasterise(GRID, (80, 160))
    lost = 1 - (drop(raster, probability, 5) != 255).sum() / (raster != 255).sum()
    assert lost == pytest.approx(probability, abs=4 * np.sqrt(probability * (1 - probability) / len(GRID)))


def test_the_ends_of_the_range_keep_and_drop_everything() -> None:
    raster = rasterise(GRID, (80, 160))
    assert drop(GRID, 0, 1) == GRID and drop(GRID, 1, 1) == []
    np.testing.assert_array_equal(drop(raster, 0, 1), raster)
    assert (drop(raster, 1, 1) == 255).all()


def test_what_stays_is_untouched_and_in_order() -> None:
    rest = drop(GRID, 0.5, 2)
    positions = [next(i for i, s in enumerate(GRID) if s is kept) for kept in rest]
    assert positions == sorted(positions) and len(set(positions)) == len(positions)
    raster = rasterise(GRID, (80, 160))
    remaining = drop(raster, 0.5, 2)
    np.testing.assert_array_equal(remaining[remaining != 255], raster[remaining != 255])


def test_a_larger_probability_drops_at_least_as_much() -> None:
    kept = [{id(s) for s in drop(GRID, p, 3)} for p in (0.1, 0.4, 0.8)]
    assert kept[0] > kept[1] > kept[2]


def test_scribbles_on_one_object_go_together() -> None:
    objects = np.repeat(np.arange(8), 20)[None].repeat(80, 0)  # columns of 20 pixels, 5 strokes across and 20 down
    strokes_kept = drop(GRID, 0.5, 4, objects=objects)
    per_object = np.bincount([objects[int(s.points[0, 1]), int(s.points[0, 0])] for s in strokes_kept], minlength=8)
    assert set(per_object.tolist()) == {0, 100}
    raster = rasterise(GRID, (80, 160))
    remaining = drop(raster, 0.5, 4, objects=objects)
    shares = [(remaining[objects == i] != 255).sum() for i in range(8)]
    assert set(shares) == {0, 100}


def test_objects_can_come_from_a_dense_mask_and_void_is_none() -> None:
    mask = np.zeros((10, 30), np.uint8)
    mask[:, 10:20] = 1
    mask[:5, 12:14] = 255
    strokes = [Stroke(0, np.array([[2.0, y]])) for y in (1.0, 5.0, 8.0)]
    strokes += [Stroke(1, np.array([[12.0, y], [12.0, y + 2]])) for y in (0.0, 6.0)]
    results = {tuple(s.label for s in drop(strokes, 0.5, seed, objects=connected_regions(mask))) for seed in range(60)}
    assert all(r.count(0) in (0, 3) for r in results)
    assert {r.count(1) for r in results} == {0, 1, 2}  # the one on void is an object of its own


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(UsageError, match="probability"):
        drop(GRID, 1.5, 0)
    with pytest.raises(UsageError, match="shape"):
        drop(np.zeros((4, 4), np.uint8), 0.5, 0, objects=np.zeros((4, 5), np.int32))
    with pytest.raises(UsageError, match="integer ids"):
        drop(GRID, 0.5, 0, objects=np.zeros((4, 5)))
