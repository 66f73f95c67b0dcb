from __future__ import annotations

import cv2
import numpy as np
import pytest

from wss.errors import UsageError
from wss.scribbles import Stroke, click, rasterise, surrounded


def scene(seed: int, shape: tuple[int, int] = (150, 200)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mask = np.argmax([cv2.GaussianBlur(rng.normal(size=shape), (0, 0), 12) for _ in range(4)], 0).astype(np.uint8)
    mask[:, 100:103] = 255
    return mask


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("width", [None, 1, 4, 6, 9])
def test_every_region_gets_one_print_inside(seed: int, width: int | None) -> None:
    mask = scene(seed)
    strokes = click(mask, seed, width=width, min_area=0)
    regions = [cv2.connectedComponents((mask == k).astype(np.uint8), connectivity=8)[1] for k in range(4)]
    assert len(strokes) == sum(int(r.max()) for r in regions)
    seen = set()
    for stroke in strokes:
        assert stroke.points.shape == (1, 2)
        drawn = rasterise([stroke], mask.shape) != 255
        assert drawn.any()
        here = np.unique(regions[stroke.label][drawn])
        assert len(here) == 1 and here[0] > 0  # all of it in one region of its class
        seen.add((stroke.label, int(here[0])))
    assert len(seen) == len(strokes)


def test_places_vary_with_the_seed_and_stay_in_the_inner_half() -> None:
    mask = np.zeros((80, 120), np.uint8)
    cv2.circle(mask, (60, 40), 30, 1, -1)
    found = np.array([next(s for s in click(mask, seed) if s.label == 1).points[0] for seed in range(200)])
    distance = np.hypot(*(found - (60, 40)).T)
    assert distance.max() <= 16
    assert 9 < distance.mean() < 12  # evenly over a disc of radius 15 it is 10
    assert len(np.unique(found, axis=0)) > 100
    again = [s.points.tolist() for s in click(mask, 7)]
    assert again == [s.points.tolist() for s in click(mask, 7)]


def test_specks_are_overlooked_unless_a_class_has_nothing_else() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[10:40, 10:40], mask[80, 80] = 1, 1
    mask[90, 10] = 2
    assert [s.label for s in click(mask, 0)] == [0, 1, 2]
    assert [s.label for s in click(mask, 0, min_area=1)] == [0, 1, 1, 2]
    assert click(np.full((5, 5), 255, np.uint8), 0) == []
    with pytest.raises(UsageError, match="brush"):
        click(mask, 0, width=0)


def test_a_gaussian_cut_at_two_heights() -> None:
    strokes = [Stroke(2, np.array([[10.0, 12.0]]), 6), Stroke(1, np.array([[30.0, 8.0]]), 4)]
    labels = surrounded(strokes, (30, 40), background=0, radii=2.5)
    y, x = np.mgrid[:30, :40]
    heat = np.max(
        [np.exp(-((x - p[0]) ** 2 + (y - p[1]) ** 2) / (2 * r**2)) for p, r in (((10, 12), 3), ((30, 8), 2))], 0
    )
    assert ((labels == 0) == (heat < np.exp(-(2.5**2) / 2) - 1e-9)).all()
    assert labels[12, 10] == 2 and labels[8, 30] == 1
    assert (labels[heat < np.exp(-0.5) - 0.25] != 2).all()  # the print is round within half a pixel
    assert ((labels == 2) == (rasterise(strokes[:1], (30, 40)) == 2)).all()


def test_nothing_but_background_without_points_and_zones_that_meet() -> None:
    assert (surrounded([], (4, 5), background=3, radii=2) == 3).all()
    points = [Stroke(1, np.array([[2.0, 2.0]]), 3), Stroke(2, np.array([[5.0, 2.0]]), 3)]
    labels = surrounded(points, (5, 8), background=0, radii=1.5)
    assert labels[2, 2] == 1 and labels[2, 5] == 2  # a zone never covers another point
    with pytest.raises(UsageError, match="at least 1 radius"):
        surrounded(points, (5, 8), background=0, radii=0.5)
