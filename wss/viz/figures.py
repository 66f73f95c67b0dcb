"""Line charts and confusion matrices as SVG, for inclusion in a page.

No plotting library is used: the page's style sheet sets the colours, so the figures follow light mode, dark mode and print, and
their text stays text. Styles used: ``axis``, ``grid``, ``line``, ``dashed``, ``dot``, ``spread``, ``s0`` .. ``s7`` (series),
``right``, ``wrong``, ``cell``, ``on`` (numbers on strong colour).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

SERIES_STYLES = 8
"""Number of series styles. Further series reuse the first styles."""

_MOST_POINTS = 300  # per line; longer curves are averaged in bins, which also smooths noisy losses
_DOTTED = 40  # lines with at most this number of points show dots, with values as tooltips


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: Name in tooltips and for screen readers.
        points: (step, value) in order of steps; values that are None or not finite are skipped.
        style: Number of the series' style.
        spreads: Half-width of each point's error bar, or None if unknown; one per point, or empty.
        dashed: True for a dashed line.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    style: int = 0
    spreads: Sequence[float | None] = ()
    dashed: bool = False


def line_chart(title: str, series: Sequence[Series], *, percent: bool = False) -> str:
    """Draw curves over training steps.

    Args:
        title: Name of the values.
        series: The lines.
        percent: True if values are fractions to be shown as percentages. The scale then starts at 0.

    Returns:
        An ``svg`` element; empty if no series has a finite value.
    """
    factor = 100.0 if percent else 1.0
    lines = [
        (s, _thinned([(x, y * factor) for x, y in s.points if y is not None and math.isfinite(y)])) for s in series
    ]
    lines = [(s, points) for s, points in lines if points]
    if not lines:
        return ""
    xs, ys = zip(*(point for _, points in lines for point in points), strict=True)
    from_zero = percent or 0 <= min(ys) < max(ys) / 2 or 0 <= min(ys) == max(ys)
    frame = _Frame((0.0, max(max(xs), 1.0)), (0.0 if from_zero else min(ys), max(ys)))
    unit = "%" if percent else ""
    spoken = f"{title}. " + "; ".join(
        f"{s.name}: from {_short(points[0][1])}{unit} to {_short(points[-1][1])}{unit} in {_short(points[-1][0])} steps"
        for s, points in lines
    )
    parts = frame.axes(spoken, "training steps", [v for v in ticks(0, max(xs), 5) if v <= frame.x[1]], unit)
    for line, points in lines:
        style = f"s{line.style % SERIES_STYLES}"
        parts.append(frame.line(points, style))
        for step, value in points[0 if len(points) <= _DOTTED else -1 :]:
            parts.append(frame.dot(step, value, style, f"{line.name}, step {_short(step)}: {_short(value)}{unit}"))
    parts.append("</svg>")
    return "".join(parts)


def factor_chart(title: str, series: Sequence[Series], axis: str, *, percent: bool = False) -> str:
    """Draw values over a varied number, with error bars. The scales cover exactly the range of the values.

    Args:
        title: Name of the values.
        series: The lines.
        axis: Name of the varied number.
        percent: True if values and spreads are fractions to be shown as percentages.

    Returns:
        An ``svg`` element; empty if no series has a finite value.
    """
    factor, unit = (100.0, "%") if percent else (1.0, "")
    lines = []
    for line in series:
        spreads = line.spreads or [None] * len(line.points)
        known = [
            (x, y * factor, (spread or 0.0) * factor)
            for (x, y), spread in zip(line.points, spreads, strict=True)
            if y is not None and math.isfinite(y)
        ]
        lines += [(line, known)] if known else []
    if not lines:
        return ""
    xs = sorted({x for _, points in lines for x, _, _ in points})
    floor = 0.0 if percent else -math.inf  # no score spreads below 0
    ends = [e for _, points in lines for _, y, spread in points for e in (max(y - spread, floor), y + spread)]
    margin = 0.04 * (xs[-1] - xs[0]) or 1.0
    frame = _Frame((xs[0] - margin, xs[-1] + margin), (min(ends), max(ends)))
    spoken = f"{title} over {axis}. " + "; ".join(
        f"{line.name}: " + ", ".join(f"{_short(y)}{unit} at {_short(x)}" for x, y, _ in points)
        for line, points in lines
    )
    parts = frame.axes(spoken, axis, _apart(xs, frame.x), unit)
    for line, points in lines:
        style = f"s{line.style % SERIES_STYLES}"
        if len(points) > 1:
            parts.append(frame.line([(x, y) for x, y, _ in points], style + " dashed" * line.dashed))
        for x, y, spread in points:
            tip = f"{line.name}, {axis} {_short(x)}: {_short(y)}{unit}" + (
                f" \u00b1 {_short(spread)}" if spread else ""
            )
            if spread:
                parts.append(frame.bar(x, max(y - spread, floor), y + spread, style))
            parts.append(frame.dot(x, y, style, tip))
    parts.append("</svg>")
    return "".join(parts)


@dataclass(frozen=True)
class _Frame:
    """The area of a chart, and methods that draw in it.

    Attributes:
        x: Smallest and largest number on the horizontal axis.
        values: Smallest and largest number on the vertical axis.
    """

    x: tuple[float, float]
    values: tuple[float, float]
    width = 480
    height = 250
    left, top, right, bottom = 52, 12, 16, 42

    @cached_property
    def y_ticks(self) -> list[float]:
        return ticks(*self.values, 5)

    def place(self, x: float, y: float) -> tuple[float, float]:
        low, high = self.y_ticks[0], max(self.y_ticks[-1], self.values[1])
        return (
            self.left + (x - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - self.left - self.right),
            self.height - self.bottom - (y - low) / (high - low) * (self.height - self.top - self.bottom),
        )

    def axes(self, spoken: str, axis: str, x_ticks: Sequence[float], unit: str) -> list[str]:
        end, floor = self.width - self.right, self.height - self.bottom
        parts = [f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(spoken)}">']
        for value in self.y_ticks:
            _, y = self.place(self.x[0], value)
            parts.append(f'<line class="grid" x1="{self.left}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(
                f'<text class="axis" x="{self.left - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}{unit}</text>'
            )
        for value in x_ticks:
            x, _ = self.place(value, self.y_ticks[0])
            parts.append(f'<text class="axis" x="{x:.1f}" y="{floor + 18}" text-anchor="middle">{_short(value)}</text>')
        middle = (self.left + end) / 2
        parts.append(
            f'<text class="axis" x="{middle:.1f}" y="{self.height - 6}" text-anchor="middle">{escape(axis)}</text>'
        )
        return parts

    def line(self, points: Sequence[tuple[float, float]], style: str) -> str:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.place(*point) for point in points))
        return f'<polyline class="line {style}" points="{path}"/>'

    def dot(self, x: float, y: float, style: str, tip: str) -> str:
        across, down = self.place(x, y)
        circle = f'<circle class="dot {style}" cx="{across:.1f}" cy="{down:.1f}" r="2.5">'
        return f"{circle}<title>{escape(tip)}</title></circle>"

    def bar(self, x: float, low: float, high: float, style: str) -> str:
        (across, bottom), (_, top) = self.place(x, low), self.place(x, high)
        path = "".join(f"M{across - 4:.1f} {y:.1f}h8" for y in (bottom, top)) + f"M{across:.1f} {bottom:.1f}V{top:.1f}"
        return f'<path class="spread {style}" d="{path}"/>'


def _apart(xs: Sequence[float], ends: tuple[float, float]) -> list[float]:
    """Choose the sorted numbers whose labels do not overlap. The first and the last are always chosen."""
    least = 0.07 * (ends[1] - ends[0])
    kept = [xs[0]]
    for x in xs[1:-1]:
        if x - kept[-1] >= least and xs[-1] - x >= least:
            kept.append(x)
    return [*kept, xs[-1]] if len(xs) > 1 else kept


def confusion_figure(confusion: NDArray[Any], classes: Sequence[str], name: str) -> str:
    """Draw a confusion matrix, each row as percentages of its true class.

    With up to 24 classes, cells show numbers. With more classes, they have only colours and tooltips.

    Args:
        confusion: (K, K), truth in rows.
        classes: K names.
        name: Name of the run, for screen readers.

    Returns:
        An ``svg`` element, with its natural width in pixels.
    """
    count = len(classes)
    shares = row_shares(confusion)
    numbered = count <= 24
    cell, font = (30, 11) if numbered else (14, 9)
    short = [c if len(c) <= 18 else c[:17] + "\u2026" for c in classes]
    gutter = round(max(len(c) for c in short) * font * 0.58) + 12
    slant = round(gutter * 0.75) + 8  # column names stand at an angle
    width, height = gutter + count * cell + slant, slant + count * cell + 4
    spoken = f"Confusion matrix of {name}. " + "; ".join(
        f"{c}: {100 * shares[i, i]:.0f}% right" for i, c in enumerate(classes) if not np.isnan(shares[i, i])
    )
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-size="{font}" role="img" '
        f'aria-label="{escape(spoken)}">',
        f'<rect class="cell" x="{gutter}" y="{slant}" width="{count * cell}" height="{count * cell}"/>',
    ]
    for i, label in enumerate(short):
        middle = (i + 0.5) * cell
        x, y = gutter + middle, slant + middle
        parts.append(
            f'<text class="axis" x="{gutter - 6}" y="{y + font * 0.35:.1f}" text-anchor="end">{escape(label)}</text>'
        )
        parts.append(
            f'<text class="axis" transform="translate({x + font * 0.2:.1f} {slant - 6}) rotate(-48)">{escape(label)}</text>'
        )
        for j in np.flatnonzero(shares[i] >= 0.005).tolist():
            share, x = float(shares[i, j]), gutter + j * cell
            tip = f"{classes[i]} predicted as {classes[j]}: {100 * share:.1f}%"
            kind = "right" if i == j else "wrong"
            parts.append(
                f'<rect class="{kind}" x="{x + 0.5}" y="{slant + i * cell + 0.5}" width="{cell - 1}" height="{cell - 1}" '
                f'fill-opacity="{0.08 + 0.92 * share:.2f}"><title>{escape(tip)}</title></rect>'
            )
            if numbered:
                strong = " on" if share > 0.55 else ""
                parts.append(
                    f'<text class="number{strong}" x="{x + cell / 2}" y="{y + font * 0.35:.1f}" text-anchor="middle">'
                    f"{100 * share:.0f}</text>"
                )
    parts.append("</svg>")
    return "".join(parts)


def row_shares(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Divide each row of a confusion matrix (K, K) by its sum. Rows of classes absent from the truth are NaN."""
    counts = np.asarray(confusion, np.float64)
    totals = np.broadcast_to(counts.sum(1, keepdims=True), counts.shape)
    shares: NDArray[np.float64] = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    return shares


def ticks(low: float, high: float, count: int) -> list[float]:
    """About ``count`` tick values from at most ``low`` to at least ``high``, with a step of 1, 2 or 5 times a power of 10."""
    span = high - low
    if span <= 0:
        span = abs(high) or 1.0
        low, high = (low, low + span) if low >= 0 else (low, low + span / 2)
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(points) <= _MOST_POINTS:
        return points
    means = [chunk.mean(axis=0).tolist() for chunk in np.array_split(np.array(points), _MOST_POINTS)]
    return [(step, value) for step, value in means]


def _short(value: float) -> str:
    """Format a number with few characters: 1200 as 1.2k, 0.00001 as 1e-5."""
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}"
    if value and abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.4g}"
