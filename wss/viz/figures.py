"""Line charts and confusion matrices as SVG to be put into a page.

Written by hand rather than by a plotting library: the page's style sheet colours them, so they follow light, dark and
print, and their text stays text. Styles used: ``axis``, ``grid``, ``line``, ``dot``, ``s0`` .. ``s7`` (series), ``right``,
``wrong``, ``cell``, ``on`` (numbers on strong colour).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

SERIES_STYLES = 8
"""Series beyond these reuse the first styles."""

_MOST_POINTS = 300  # per line; longer curves are averaged in bins, which also calms noisy losses
_DOTTED = 40  # lines of at most so many points show them, with their values as tooltips


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: Shown in tooltips and read aloud.
        points: (step, value) in order of steps; values that are None or not finite are skipped.
        style: Number of the series' style.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    style: int = 0


def line_chart(title: str, series: Sequence[Series], *, percent: bool = False) -> str:
    """Draw curves over training steps.

    Args:
        title: What the values are.
        series: The lines.
        percent: Whether values are fractions to be shown as percentages; the scale then begins at 0.

    Returns:
        An ``svg`` element; empty when no series has a finite value.
    """
    factor = 100.0 if percent else 1.0
    lines = [
        (s, _thinned([(x, y * factor) for x, y in s.points if y is not None and math.isfinite(y)])) for s in series
    ]
    lines = [(s, points) for s, points in lines if points]
    if not lines:
        return ""
    xs, ys = zip(*(point for _, points in lines for point in points), strict=True)
    x_ticks = ticks(0, max(xs), 5)
    from_zero = percent or 0 <= min(ys) < max(ys) / 2 or 0 <= min(ys) == max(ys)
    y_ticks = ticks(0 if from_zero else min(ys), max(ys), 5)
    width, height, left, top, right, bottom = 480, 250, 52, 12, 16, 42
    x_low, x_high = 0.0, max(max(xs), 1.0)
    y_low, y_high = y_ticks[0], max(y_ticks[-1], max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - x_low) / (x_high - x_low) * (width - left - right),
            height - bottom - (y - y_low) / (y_high - y_low) * (height - top - bottom),
        )

    unit = "%" if percent else ""
    spoken = f"{title}. " + "; ".join(
        f"{s.name}: from {_short(points[0][1])}{unit} to {_short(points[-1][1])}{unit} in {_short(points[-1][0])} steps"
        for s, points in lines
    )
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(spoken)}">']
    for value in y_ticks:
        _, y = place(0, value)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="axis" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}{unit}</text>'
        )
    for value in (v for v in x_ticks if v <= x_high):
        x, _ = place(value, y_low)
        parts.append(
            f'<text class="axis" x="{x:.1f}" y="{height - bottom + 18}" text-anchor="middle">{_short(value)}</text>'
        )
    middle = (left + width - right) / 2
    parts.append(f'<text class="axis" x="{middle:.1f}" y="{height - 6}" text-anchor="middle">training steps</text>')
    for line, points in lines:
        style = f"s{line.style % SERIES_STYLES}"
        placed = [place(x, y) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline class="line {style}" points="{path}"/>')
        dotted = len(placed) <= _DOTTED
        for (x, y), (step, value) in list(zip(placed, points, strict=True))[0 if dotted else -1 :]:
            tip = f"{line.name}, step {_short(step)}: {_short(value)}{unit}"
            parts.append(
                f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"><title>{escape(tip)}</title></circle>'
            )
    parts.append("</svg>")
    return "".join(parts)


def confusion_figure(confusion: NDArray[Any], classes: Sequence[str], name: str) -> str:
    """Draw a confusion matrix, each row as percentages of its true class.

    Up to 24 classes cells carry numbers; with more of them, colour and tooltips do.

    Args:
        confusion: (K, K), truth in rows.
        classes: K names.
        name: Whose predictions they are, read aloud.

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
    """The confusion matrix (K, K) with each row divided by its sum; NaN in rows of classes absent from the truth."""
    counts = np.asarray(confusion, np.float64)
    totals = np.broadcast_to(counts.sum(1, keepdims=True), counts.shape)
    shares: NDArray[np.float64] = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    return shares


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round values from at most ``low`` to at least ``high``, about ``count`` steps apart by 1, 2 or 5 times a power of 10."""
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
    """A number in few characters: 1200 as 1.2k, 0.00001 as 1e-5."""
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}"
    if value and abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.4g}"
