from __future__ import annotations

import time
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wss.errors import UsageError
from wss.scribbles import Stroke, points, rasterise, shrink

RATES = (0.0, 0.1, 0.25, 0.5, 0.8, 0.95, 1.0)


def arc_length(polyline: np.ndarray) -> float:
    return float(sum(np.hypot(*(b - a)) for a, b in pairwise(polyline)))


def distance_to(polyline: np.ndarray, point: np.ndarray) -> float:
    """Distance from a point to a polyline, by brute force over its segments."""
    best = min(float(np.hypot(*(p - point))) for p in polyline)
    for a, b in pairwise(polyline):
        if (a != b).any():
            t = np.clip(np.dot(point - a, b - a) / np.dot(b - a, b - a), 0, 1)
            best = min(best, float(np.hypot(*(a + t * (b - a) - point))))
    return best


def pieces(mask: np.ndarray) -> dict[int, int]:
    """Number of connected components by label."""
    labels = [int(v) for v in np.unique(mask) if v != 255]
    return {v: cv2.connectedComponents((mask == v).astype(np.uint8), connectivity=8)[0] - 1 for v in labels}


# An L of arc length 10 + 20 = 30.
CORNER = Stroke(3, np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 20.0]]), 2)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seed", range(5))
def test_keeps_the_wanted_arc_length_of_a_polyline(rate: float, seed: int) -> None:
    (shorter,) = shrink([CORNER], rate, seed)
    assert arc_length(shorter.points) == pytest.approx(30 * (1 - rate), abs=1e-9)
    assert (shorter.label, shorter.width) == (3, 2)
    assert max(distance_to(CORNER.points, p) for p in shorter.points) < 1e-9
    if arc_length(shorter.points) > 20:
        assert [10.0, 0.0] in shorter.points.tolist()


def test_the_start_is_uniform_over_the_possible_starts() -> None:
    straight = Stroke(0, np.array([[0.0, 0.0], [100.0, 0.0]]))
    starts = np.array([shrink([straight], 0.4, seed)[0].points[0, 0] for seed in range(2000)])
    assert starts.min() >= 0 and starts.max() <= 40
    quartiles = np.quantile(starts, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quartiles, [10, 20, 30], atol=1.5)


def test_rate_zero_changes_nothing() -> None:
    assert shrink([CORNER], 0, 1)[0].points.tolist() == CORNER.points.tolist()
    raster = rasterise([CORNER], (30, 30))
    np.testing.assert_array_equal(shrink(raster, 0, 1), raster)


def test_rate_one_and_points_leave_one_point_on_the_stroke() -> None:
    for seed in range(10):
        (click,) = points([CORNER], seed)
        assert click.points.shape == (1, 2)
        assert distance_to(CORNER.points, click.points[0]) < 1e-9
        np.testing.assert_array_equal(click.points, shrink([CORNER], 1.0, seed)[0].points)


@pytest.mark.parametrize("rate", RATES)
def test_strokes_without_length_are_kept(rate: float) -> None:
    dot = Stroke(1, np.array([[4.0, 5.0]]), 3)
    repeated = Stroke(2, np.array([[7.0, 7.0]] * 3))
    first, second = shrink([dot, repeated], rate, 0)
    assert first.points.tolist() == [[4.0, 5.0]] and first.width == 3
    assert set(map(tuple, second.points.tolist())) == {(7.0, 7.0)}
    assert set(np.unique(rasterise([first, second], (10, 10)))) == {1, 2, 255}


polylines = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(polylines, st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_rate_keeps_part_of_what_a_smaller_one_keeps(
    line: list[tuple[int, int]], seed: int, a: float, b: float
) -> None:
    stroke = Stroke(0, np.array(line, np.float64))
    longer, shorter = (shrink([stroke], rate, seed)[0].points for rate in sorted((a, b)))
    assert max(distance_to(longer, p) for p in shorter) < 1e-6


def test_empty_scribbles_stay_empty() -> None:
    assert shrink([], 0.5, 0) == []
    assert points([], 0) == []
    empty = np.full((5, 6), 255, np.uint8)
    np.testing.assert_array_equal(shrink(empty, 0.5, 0), empty)


def drawing() -> np.ndarray:
    """Two curves, a loop, a cross, a dot: every shape that needs thought."""
    t = np.linspace(0, np.pi, 40)
    around = np.linspace(0, 2 * np.pi, 60)
    curve = np.stack([20 + 60 * t, 40 + 25 * np.sin(2 * t)], 1)
    loop = np.stack([60 + 25 * np.cos(around), 130 + 25 * np.sin(around)], 1)
    strokes = [
        Stroke(0, curve, 3),
        Stroke(1, loop, 3),
        Stroke(2, np.array([[120.0, 110.0], [180.0, 170.0]]), 3),
        Stroke(2, np.array([[120.0, 170.0], [180.0, 110.0]]), 3),
        Stroke(3, np.array([[5.0, 5.0]]), 1),
        Stroke(3, np.array([[195.0, 10.0]]), 5),
        Stroke(0, np.array([[10.0, 190.0], [190.0, 190.0]]), 1),
    ]
    return rasterise(strokes, (200, 230))


@pytest.mark.parametrize("seed", range(4))
def test_rasters_shrink_component_by_component(seed: int) -> None:
    raster = drawing()
    before = pieces(raster)
    smaller = raster
    for rate in RATES:
        shorter = shrink(raster, rate, seed)
        kept = shorter != 255
        np.testing.assert_array_equal(shorter[kept], raster[kept])
        assert pieces(shorter) == before, "each scribble stays, in one piece"
        assert (kept <= (smaller != 255)).all(), "a larger rate keeps a part"
        smaller = shorter


@pytest.mark.parametrize(("label", "tolerance"), [(0, 0.03), (1, 0.05), (2, 0.05)])
@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8])
def test_rasters_lose_the_wanted_share_of_their_pixels(label: int, tolerance: float, rate: float) -> None:
    raster = drawing()
    shares = [(shrink(raster, rate, seed) == label).sum() / (raster == label).sum() for seed in range(5)]
    np.testing.assert_allclose(shares, 1 - rate, atol=tolerance)


def test_a_straight_raster_keeps_its_thickness() -> None:
    raster = rasterise([Stroke(1, np.array([[10.0, 20.0], [110.0, 20.0]]), 5)], (40, 120))
    shorter = shrink(raster, 0.5, 7) == 1
    heights = shorter.sum(0)[shorter.any(0)]
    assert (heights[3:-3] == 5).all()


def test_clicks_on_rasters_are_small_and_inside() -> None:
    raster = drawing()
    clicks = points(raster, 3)
    kept = clicks != 255
    np.testing.assert_array_equal(clicks[kept], raster[kept])
    assert pieces(clicks) == pieces(raster)
    assert kept.sum() <= 8 * sum(pieces(raster).values())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 0.7, 1.0]))
def test_any_raster_keeps_labels_and_components(seed: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    blobs = cv2.GaussianBlur(rng.normal(size=(24, 31)), (0, 0), rng.uniform(0.3, 3))
    raster = np.where(blobs > np.quantile(blobs, 0.7), rng.integers(0, 3), 255).astype(np.uint8)
    shorter = shrink(raster, rate, seed)
    kept = shorter != 255
    np.testing.assert_array_equal(shorter[kept], raster[kept])
    count, ids = cv2.connectedComponents((raster != 255).astype(np.uint8), connectivity=8)
    assert set(np.unique(ids[kept])) == set(range(1, count))


def test_the_input_is_left_alone_and_the_seed_decides() -> None:
    raster = drawing()
    copy = raster.copy()
    first = shrink(raster, 0.5, 1)
    np.testing.assert_array_equal(raster, copy)
    np.testing.assert_array_equal(first, shrink(raster, 0.5, 1))
    assert (first != shrink(raster, 0.5, 2)).any()


@pytest.mark.parametrize("rate", [-0.1, 1.01, float("nan")])
def test_rates_outside_the_range_are_refused(rate: float) -> None:
    with pytest.raises(UsageError, match="shrink rate"):
        shrink([CORNER], rate, 0)


@pytest.mark.parametrize("raster", [np.zeros((3, 3), np.int64), np.zeros((2, 3, 3), np.uint8)])
def test_rasters_of_another_type_are_refused(raster: np.ndarray) -> None:
    with pytest.raises(UsageError, match="uint8"):
        shrink(raster, 0.5, 0)


def test_is_fast_enough_for_a_photograph() -> None:
    t = np.linspace(0, 6, 200)
    strokes = [Stroke(i, np.stack([30 + 70 * t, 30 + 40 * i + 15 * np.sin(t * (i + 1))], 1), 3) for i in range(8)]
    raster = rasterise(strokes, (375, 500))
    durations = []
    for _ in range(3):
        start = time.process_time()
        shrink(raster, 0.5, 0)
        durations.append(time.process_time() - start)
    assert min(durations) < 0.2  # about 0.02 s; the margin is for slow machines
