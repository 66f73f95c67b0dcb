"""Metrics by loops over pixels and voxels, straight from their definitions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def confusion(truth: NDArray[Any], prediction: NDArray[Any], num_classes: int, ignore: int = 255) -> NDArray[np.int64]:
    counts = np.zeros((num_classes, num_classes), np.int64)
    for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if t != ignore:
            counts[t, p] += 1
    return counts


def iou_of_sets(truth: NDArray[Any], prediction: NDArray[Any], label: int, ignore: int = 255) -> float:
    valid = {i for i, t in enumerate(truth.ravel().tolist()) if t != ignore}
    a = {i for i in valid if truth.ravel()[i] == label}
    b = {i for i in valid if prediction.ravel()[i] == label}
    return len(a & b) / len(a | b) if a | b else float("nan")


def surface_points(region: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    points = []
    for index in itertools.product(*(range(n) for n in region.shape)):
        if not region[index]:
            continue
        for axis, step in itertools.product(range(region.ndim), (-1, 1)):
            neighbour = list(index)
            neighbour[axis] += step
            inside = 0 <= neighbour[axis] < region.shape[axis]
            if not inside or not region[tuple(neighbour)]:
                points.append(index)
                break
    return points


def hd95(a: NDArray[np.bool_], b: NDArray[np.bool_], spacing: tuple[float, ...]) -> float:
    def nearest(point: tuple[int, ...], others: list[tuple[int, ...]]) -> float:
        return min(
            math.sqrt(sum(((x - y) * s) ** 2 for x, y, s in zip(point, other, spacing, strict=True)))
            for other in others
        )

    first, second = surface_points(a), surface_points(b)
    distances = sorted([nearest(p, second) for p in first] + [nearest(p, first) for p in second])
    position = 0.95 * (len(distances) - 1)
    low = math.floor(position)
    high = min(low + 1, len(distances) - 1)
    return distances[low] + (position - low) * (distances[high] - distances[low])


def covering(truth: NDArray[Any], regions: NDArray[Any]) -> float:
    def sets(labels: NDArray[Any]) -> list[set[int]]:
        flat = labels.ravel().tolist()
        return [{i for i, value in enumerate(flat) if value == label} for label in set(flat)]

    best = [(len(t), max(len(t & r) / len(t | r) for r in sets(regions))) for t in sets(truth)]
    return sum(size * share for size, share in best) / truth.size


def rand_index(truth: NDArray[Any], regions: NDArray[Any]) -> float:
    pairs = list(itertools.combinations(zip(truth.ravel().tolist(), regions.ravel().tolist(), strict=True), 2))
    return sum((a[0] == b[0]) == (a[1] == b[1]) for a, b in pairs) / len(pairs)


def variation_of_information(truth: NDArray[Any], regions: NDArray[Any]) -> float:
    """H(truth | regions) + H(regions | truth), in bits."""
    pixels = list(zip(truth.ravel().tolist(), regions.ravel().tolist(), strict=True))
    total = 0.0
    for t, r in pixels:
        joint = sum(p == (t, r) for p in pixels) / len(pixels)
        own, theirs = sum(p[0] == t for p in pixels) / len(pixels), sum(p[1] == r for p in pixels) / len(pixels)
        total -= (math.log2(joint / theirs) + math.log2(joint / own)) / len(pixels)
    return total


def boundary_distance_by_pairs(truth: NDArray[Any]) -> NDArray[np.float64]:
    """Distance of each pixel to the closest one that has a neighbour of another value, over all pairs."""
    height, width = truth.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    steps = ((0, 1), (1, 0), (0, -1), (-1, 0))
    boundary: list[tuple[int, int]] = []
    for y, x in pixels:
        beside = [(y + dy, x + dx) for dy, dx in steps if 0 <= y + dy < height and 0 <= x + dx < width]
        if any(truth[place] != truth[y, x] for place in beside):
            boundary.append((y, x))
    found = [min((math.hypot(y - v, x - u) for v, u in boundary), default=math.inf) for y, x in pixels]
    return np.reshape(found, truth.shape)
