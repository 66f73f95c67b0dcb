"""Arcs between regions and the hierarchy of regions, step by step from their definitions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Corner = tuple[int, int]
Side = tuple[Corner, Corner]


def sides(regions: NDArray[Any]) -> dict[Side, tuple[int, int]]:
    """Sides of pixels between different regions, by their corners, with these two regions."""
    height, width = regions.shape
    found = {}
    for y, x in itertools.product(range(height), range(width)):
        if x + 1 < width and regions[y, x] != regions[y, x + 1]:
            found[(y, x + 1), (y + 1, x + 1)] = (int(regions[y, x]), int(regions[y, x + 1]))
        if y + 1 < height and regions[y, x] != regions[y + 1, x]:
            found[(y + 1, x), (y + 1, x + 1)] = (int(regions[y, x]), int(regions[y + 1, x]))
    return found


def arcs(regions: NDArray[Any]) -> set[frozenset[Side]]:
    """Sides that are joined by corners at which no other sides meet."""
    meeting: dict[Corner, list[Side]] = {}
    for side in sides(regions):
        for corner in side:
            meeting.setdefault(corner, []).append(side)
    groups = {side: {side} for side in sides(regions)}
    for joined in meeting.values():
        if len(joined) == 2:
            union = groups[joined[0]] | groups[joined[1]]
            for side in union:
                groups[side] = union
    return {frozenset(group) for group in groups.values()}


def directions(points: list[Corner], deviation: float, least_px: float) -> list[tuple[float, float]]:
    """Unit vector of the approximating segment at each step of a path."""
    (y0, x0), (y1, x1) = points[0], points[-1]
    length = math.hypot(y1 - y0, x1 - x0)
    distances = [_from_segment(point, points[0], points[-1]) for point in points[1:-1]]
    if distances and max(distances) > max(deviation * length, least_px):
        middle = distances.index(max(distances)) + 1
        return directions(points[: middle + 1], deviation, least_px) + directions(points[middle:], deviation, least_px)
    unit = ((y1 - y0) / length, (x1 - x0) / length) if length else (0.0, 0.0)
    return [unit] * (len(points) - 1)


def _from_segment(point: Corner, start: Corner, end: Corner) -> float:
    if start == end:
        return math.dist(point, start)
    along = sum((e - s) * (p - s) for p, s, e in zip(point, start, end, strict=True)) / math.dist(start, end) ** 2
    along = min(1.0, max(0.0, along))
    return math.dist(point, [s + along * (e - s) for s, e in zip(start, end, strict=True)])


def merges(regions: NDArray[Any], strength: dict[Side, float]) -> list[tuple[float, NDArray[Any]]]:
    """Every merge's height and the segmentation after it, each found by looking at all boundaries anew."""
    current = regions.copy()
    steps = []
    while True:
        boundaries: dict[tuple[int, int], list[float]] = {}
        for side, (a, b) in sides(current).items():
            boundaries.setdefault((min(a, b), max(a, b)), []).append(strength[side])
        if not boundaries:
            return steps
        (a, b), values = min(boundaries.items(), key=lambda item: np.mean(item[1]))
        current = np.where(current == b, a, current)
        steps.append((float(np.mean(values)), current))
