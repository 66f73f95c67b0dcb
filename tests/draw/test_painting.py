import numpy as np
import pytest
from draw_client import stroke

from wss.draw.painting import Window, boxes_of, paint, region_pixels, region_runs, shrunk
from wss.scribbles import Stroke, rasterise

SHAPE = (40, 50)


def test_a_click_on_a_pixel_paints_that_pixel():
    """The page's pixel centres are at halves."""
    for x, y in ((0.1, 0.1), (0.5, 0.9), (49.99, 39.99), (20.2, 10.7)):
        labels = paint([{"id": "p", "kind": "point", "class": 2, "x": x, "y": y, "width": 1}], SHAPE)
        assert np.argwhere(labels == 2).tolist() == [[int(y), int(x)]]


def test_strokes_are_drawn_as_wss_draws_them():
    labels = paint([stroke("s", 3, (5.5, 5.5), (30.5, 20.5), width=4)], SHAPE)
    expected = rasterise([Stroke(3, np.array([[5.0, 5.0], [30.0, 20.0]]), 4)], SHAPE)
    np.testing.assert_array_equal(labels, expected)


def test_later_objects_lie_over_earlier_ones_and_erasures_clear_what_is_before():
    across, down = stroke("a", 1, (0, 20), (50, 20), width=9), stroke("b", 2, (25, 0), (25, 40), width=9)
    erase = {"id": "e", "kind": "erase", "width": 5, "points": [[0, 20], [50, 20]]}
    assert paint([across, down], SHAPE)[20, 25] == 2
    assert paint([down, across], SHAPE)[20, 25] == 1
    assert paint([across, down, erase], SHAPE)[20, 25] == 255
    assert paint([across, erase, down], SHAPE)[20, 25] == 2
    assert paint([across, erase, down], SHAPE)[20, 5] == 255


def test_the_data_sets_scribbles_lie_below_and_are_not_erased():
    below = np.full(SHAPE, 255, np.uint8)
    below[20] = 3
    erase = {"id": "e", "kind": "erase", "width": 9, "points": [[0, 20], [50, 20]]}
    labels = paint([stroke("a", 1, (0, 20), (10, 20)), erase, stroke("b", 1, (30, 20), (40, 20))], SHAPE, below=below)
    assert labels[20, 5] == 3 and labels[20, 35] == 1


def test_a_part_is_painted_as_the_whole():
    rng = np.random.default_rng(0)
    objects = []
    for n in range(30):
        points = rng.uniform([14, 8], [32, 28], (4, 2)).tolist()
        width = float(rng.integers(1, 9))
        objects.append(
            {"id": str(n), "kind": "erase", "width": width, "points": points}
            if n % 5 == 4
            else stroke(str(n), n % 4, *points, width=width)
        )
    inside = rng.random(SHAPE) < 0.3
    objects.insert(
        15, {"id": "r", "kind": "region", "class": 2, "rle": region_runs(inside, Window(0, 0, 50, 40), SHAPE)}
    )
    objects.append(stroke("far", 1, (1, 1), (5, 2)))
    whole, window = paint(objects, SHAPE), Window(13, 7, 20, 22)
    assert len(np.unique(whole)) > 4
    part = paint(objects, SHAPE, window)
    np.testing.assert_array_equal(part, whole[7:29, 13:33])


@pytest.mark.parametrize(
    "window", [Window(0, 0, 50, 40), Window(7, 3, 20, 30), Window(0, 0, 1, 40), Window(49, 39, 1, 1)]
)
def test_runs_are_those_of_coco(window):
    from wss.datasets.rle import decode_rle

    inside = np.random.default_rng(1).random((window.height, window.width)) < 0.5
    runs = region_runs(inside, window, SHAPE)
    whole = np.zeros(SHAPE, bool)
    whole[window.y : window.y + window.height, window.x : window.x + window.width] = inside
    np.testing.assert_array_equal(region_pixels(runs), whole)
    np.testing.assert_array_equal(decode_rle(runs), whole)
    assert sum(runs["counts"]) == 40 * 50


def test_boxes_become_inclusive_pixels():
    box = {"id": "b", "kind": "box", "class": 1}
    rows = boxes_of(
        [
            box | {"x0": 10.2, "y0": 4.8, "x1": 3.0, "y1": 9.0},
            box | {"x0": -20, "y0": -20, "x1": 500, "y1": 500},
            box | {"x0": -20, "y0": -20, "x1": -3, "y1": 5},
        ],
        SHAPE,
    )
    assert rows == [(1, 3, 4, 10, 8), (1, 0, 0, 49, 39)]
    assert (paint([box | {"x0": 1, "y0": 1, "x1": 9, "y1": 9}], SHAPE) == 255).all()


def test_objects_on_a_reduced_copy_lie_where_they_lie_on_the_image():
    inside = np.zeros((47, 65), bool)
    inside[20:47, 40:65] = True
    region = {"id": "r", "kind": "region", "class": 2, "rle": region_runs(inside, Window(0, 0, 65, 47), (47, 65))}
    point = {"id": "p", "kind": "point", "class": 1, "x": 50.5, "y": 8.5, "width": 1}
    erase = {"id": "e", "kind": "erase", "width": 8, "points": [[60, 30], [60, 46]]}
    objects = [stroke("s", 0, (4, 4), (8, 40), width=4), region, point, erase]
    small, large = paint(shrunk(objects, 4), (12, 17)), paint(objects, (47, 65))
    assert set(np.unique(small)) == {0, 1, 2, 255}
    assert small[8 // 4, 50 // 4] == 1 and small[40 // 4, 60 // 4] == 255 and small[11, 12] == 2
    assert (small[:, :16] == large[2::4, 2::4]).mean() > 0.9
