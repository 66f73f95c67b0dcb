from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from wss.viz.figures import Series, confusion_figure, factor_chart, line_chart, row_shares, ticks


def elements(svg: str, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(tag))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (0, 0.7, [0, 0.2, 0.4, 0.6, 0.8]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (0, 2640, [0, 1000, 2000, 3000]),
    ],
)
def test_ticks_are_round(low, high, expected):
    np.testing.assert_allclose(ticks(low, high, 5), expected, atol=1e-12)


@pytest.mark.parametrize(("low", "high"), [(0, 0), (3, 3), (-2, -2), (1e-9, 2e-9), (-1e6, 1e7)])
def test_ticks_enclose_any_range(low, high):
    values = ticks(low, high, 5)
    assert values[0] <= low + 1e-12
    assert values[-1] >= high
    assert 2 <= len(values) <= 12


def test_line_chart_places_points_to_scale():
    svg = line_chart("Loss", [Series("pce", [(0, 0.0), (50, 1.0), (100, 2.0)], 3)])
    (line,) = elements(svg, "polyline")
    assert line.get("class") == "line s3"
    (x0, y0), (x1, y1), (x2, y2) = (map(float, p.split(",")) for p in line.get("points").split())
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.11)
    assert y0 > y2  # larger values are higher up


def test_line_chart_speaks_percentages():
    svg = line_chart("Validation mIoU", [Series("pce", [(10, 0.125), (1200, 0.5)])], percent=True)
    label = ElementTree.fromstring(svg).get("aria-label")
    assert label == "Validation mIoU. pce: from 12.5% to 50% in 1.2k steps"
    assert [t.text for t in elements(svg, "title")] == ["pce, step 10: 12.5%", "pce, step 1.2k: 50%"]


def test_missing_values_are_skipped():
    points = [(1, None), (2, float("nan")), (3, 0.5), (4, float("inf")), (5, 0.25)]
    svg = line_chart("x", [Series("a", points), Series("none", [(1, None)]), Series("empty", [])])
    (line,) = elements(svg, "polyline")
    assert len(line.get("points").split()) == 2
    assert line_chart("x", [Series("none", [(1, None)])]) == ""


def test_one_point_and_constant_curves_have_a_scale():
    for points in ([(0, 0.0)], [(10, 2.0)], [(1, -3.0), (2, -3.0)]):
        assert "nan" not in line_chart("x", [Series("a", points)])


def test_long_curves_are_averaged():
    noisy = [(step, step % 2) for step in range(9_000)]
    svg = line_chart("Loss", [Series("a", noisy)])
    points = elements(svg, "polyline")[0].get("points").split()
    assert len(points) <= 300
    heights = [float(p.split(",")[1]) for p in points]
    assert max(heights) == min(heights)
    assert len(elements(svg, "circle")) == 1


def test_factor_chart_places_values_and_spreads_to_scale():
    series = [Series("pce", [(0, 0.5), (0.5, None), (1, 0.6)], 1, [0.02, None, None]), Series("full", [(0, 0.7)], 7)]
    svg = factor_chart("mIoU", series, "length", percent=True)
    label = ElementTree.fromstring(svg).get("aria-label")
    assert label == "mIoU over length. pce: 50% at 0, 60% at 1; full: 70% at 0"
    assert [t.text for t in elements(svg, "title")] == [
        "pce, length 0: 50% \u00b1 2",
        "pce, length 1: 60%",
        "full, length 0: 70%",
    ]
    first, last, full = ((float(c.get("cx")), float(c.get("cy"))) for c in elements(svg, "circle"))
    assert first[0] == full[0] < last[0]
    assert first[1] - last[1] == pytest.approx(last[1] - full[1], abs=0.11)
    (bar,) = elements(svg, "path")
    low, high = (float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)h", bar.get("d")))
    assert low - high == pytest.approx(0.4 * (first[1] - last[1]), abs=0.11)  # 4 of 10 points
    assert len(elements(svg, "polyline")) == 1
    names = [t.text for t in elements(svg, "text")]
    assert "length" in names
    assert "0%" not in names  # the scale ends where the values do


def test_scores_do_not_spread_below_nothing():
    svg = factor_chart("mIoU", [Series("a", [(0, 0.05), (1, 0.1)], 0, [0.2, None])], "length", percent=True)
    assert not [t.text for t in elements(svg, "text") if (t.text or "").startswith("-")]


def test_crowded_numbers_on_the_axis_leave_some_out():
    svg = factor_chart("x", [Series("a", [(x, 1.0) for x in (0, 1, 2, 500, 999, 1000)])], "images")
    assert [t.text for t in elements(svg, "text") if t.get("text-anchor") == "middle"] == ["0", "500", "1k", "images"]


def test_a_factor_chart_of_one_number_or_none():
    assert "nan" not in factor_chart("x", [Series("a", [(3, 1.0)])], "length")
    assert factor_chart("x", [Series("a", [(3, None)])], "length") == ""


def test_names_are_escaped_in_figures():
    name = '<script>"&'
    for svg in (line_chart(name, [Series(name, [(0, 1.0)])]), confusion_figure(np.eye(2), [name, "b"], name)):
        assert "<script>" not in svg
        assert name in ElementTree.fromstring(svg).get("aria-label")


def test_row_shares_by_hand():
    shares = row_shares(np.array([[3, 1], [0, 0]]))
    np.testing.assert_allclose(shares, [[0.75, 0.25], [np.nan, np.nan]])


def test_confusion_figure_shows_row_percentages():
    svg = confusion_figure(np.array([[3, 1, 0], [0, 0, 0], [0, 400, 1]]), ["a", "b", "c"], "pce")
    numbers = [t.text for t in elements(svg, "text") if (t.get("class") or "").startswith("number")]
    assert numbers == ["75", "25", "100"]  # 1 of 401 is below half a percent
    assert [t.text for t in elements(svg, "title")] == [
        "a predicted as a: 75.0%",
        "a predicted as b: 25.0%",
        "c predicted as b: 99.8%",
    ]
    assert [r.get("class") for r in elements(svg, "rect")] == ["cell", "right", "wrong", "wrong"]
    assert ElementTree.fromstring(svg).get("aria-label").endswith("a: 75% right; c: 0% right")


def test_many_classes_carry_colour_instead_of_numbers():
    svg = confusion_figure(np.eye(60), [f"class {i}" for i in range(60)], "pce")
    assert not re.search(r'class="number', svg)
    assert len(elements(svg, "rect")) == 61
    assert float(ElementTree.fromstring(svg).get("width")) < 1100
