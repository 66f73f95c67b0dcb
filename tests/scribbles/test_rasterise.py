from __future__ import annotations

import numpy as np
import pytest

from wss.errors import UsageError
from wss.scribbles import Stroke, connected_regions, rasterise


def stroke(points: list[tuple[float, float]], label: int = 1, width: int = 1) -> Stroke:
    return Stroke(label, np.array(points, np.float64), width)


def test_draws_the_pixels_worked_by_hand() -> None:
    raster = rasterise([stroke([(1, 0), (1, 2), (3, 2)], 4)], (4, 5))
    expected = np.full((4, 5), 255, np.uint8)
    expected[0, 1] = expected[1, 1] = expected[2, 1] = expected[2, 2] = expected[2, 3] = 4
    np.testing.assert_array_equal(raster, expected)
    assert raster.dtype == np.uint8


def test_no_strokes_leave_everything_unlabelled() -> None:
    assert (rasterise([], (3, 4)) == 255).all()


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8])
def test_a_one_point_stroke_is_a_disc_of_the_brush(width: int) -> None:
    drawn = rasterise([stroke([(10, 10)], width=width)], (21, 21)) == 1
    rows, columns = np.nonzero(drawn)
    assert np.ptp(rows) == np.ptp(columns) == width - 1
    assert drawn[10, 10]
    centre = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    distance = np.hypot(*(np.mgrid[:21, :21] - np.array(centre)[:, None, None]))
    np.testing.assert_array_equal(drawn, distance <= width / 2)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_a_line_is_the_union_of_discs_along_it(width: int) -> None:
    line = rasterise([stroke([(3, 12), (20, 12)], width=width)], (25, 25)) == 1
    discs = [rasterise([stroke([(x, 12)], width=width)], (25, 25)) == 1 for x in range(3, 21)]
    np.testing.assert_array_equal(line, np.any(discs, axis=0))


@pytest.mark.parametrize("point", [(0.0, 0.0), (-0.9, 3.0), (7.0, 5.0), (6.4, 4.6), (7.0, -1.0)])
@pytest.mark.parametrize("width", [1, 3])
def test_single_points_on_the_border_survive(point: tuple[float, float], width: int) -> None:
    assert (rasterise([stroke([point], width=width)], (5, 7)) == 1).any()


def test_what_lies_outside_is_cut_off() -> None:
    assert (rasterise([stroke([(-50, -50), (-40, 90)], width=3)], (5, 7)) == 255).all()
    crossing = rasterise([stroke([(-10, 2), (30, 2)])], (5, 7))
    np.testing.assert_array_equal(crossing[2], np.ones(7))
    assert (crossing != 255).sum() == 7


def test_later_strokes_lie_on_top() -> None:
    raster = rasterise([stroke([(0, 1), (4, 1)], 1), stroke([(2, 0), (2, 2)], 0)], (3, 5))
    assert raster[1].tolist() == [1, 1, 0, 1, 1]


def test_width_overrides_the_strokes_own() -> None:
    strokes = [stroke([(5, 5), (15, 5)], width=5)]
    np.testing.assert_array_equal(
        rasterise(strokes, (20, 20), width=3), rasterise([stroke([(5, 5), (15, 5)], width=3)], (20, 20))
    )


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (stroke([(0, 0)], 255), "label in 0..254"),
        (stroke([(0, 0)], -1), "label in 0..254"),
        (stroke([(0, 0)], 1, 0), "width of at least 1"),
        (stroke([(np.nan, 0)]), "finite"),
        (Stroke(1, np.zeros((0, 2))), r"shape \(N, 2\)"),
    ],
)
def test_malformed_strokes_are_refused(bad: Stroke, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rasterise([bad], (5, 5))


def test_connected_regions_number_regions_and_skip_void() -> None:
    mask = np.array([[0, 0, 1], [255, 0, 1], [1, 255, 0]], np.uint8)
    regions = connected_regions(mask)
    assert (regions[mask == 255] == -1).all()
    assert sorted(set(regions[mask != 255].tolist())) == [0, 1, 2]  # the zeros touch at a corner, the ones do not
    assert regions[0, 2] == regions[1, 2] != regions[2, 0]
