"""Minimum spanning trees by Prim's algorithm, distances along them between all pairs, and averages with these as weights."""

from __future__ import annotations

import numpy as np


def lengths_of(features: np.ndarray) -> dict[tuple[int, int], float]:
    """Squared differences of four-connected pixels of (C,H,W) float32, in the order that decides between equal ones."""
    _, height, width = features.shape
    found = {}
    for down, right in ((0, 1), (1, 0)):
        for y in range(height - down):
            for x in range(width - right):
                pair = y * width + x, (y + down) * width + x + right
                found[pair] = ((features[:, y + down, x + right] - features[:, y, x]) ** 2).sum()
    return found


def prim(lengths: dict[tuple[int, int], float], count: int) -> set[tuple[int, int]]:
    """Edges of the tree: from any pixel on, the shortest edge that leaves what is reached; the first of equal ones."""
    rank = {edge: place for place, edge in enumerate(sorted(lengths, key=lambda e: lengths[e]))}  # sorted is stable
    reached, tree = {0}, set()
    while len(reached) < count:
        leaving = [edge for edge in lengths if (edge[0] in reached) != (edge[1] in reached)]
        best = min(leaving, key=rank.__getitem__)
        tree.add(best)
        reached |= set(best)
    return tree


def distances(tree: set[tuple[int, int]], lengths: dict[tuple[int, int], float], count: int) -> np.ndarray:
    """(N,N), sums of lengths along the path between any two pixels, by walking from each."""
    beside: dict[int, list[tuple[int, float]]] = {i: [] for i in range(count)}
    for a, b in tree:
        beside[a].append((b, float(lengths[a, b])))
        beside[b].append((a, float(lengths[a, b])))
    found = np.full((count, count), np.inf)
    for start in range(count):
        found[start, start] = 0
        waiting = [start]
        while waiting:
            pixel = waiting.pop()
            for other, length in beside[pixel]:
                if np.isinf(found[start, other]) and np.isfinite(length):
                    found[start, other] = found[start, pixel] + length
                    waiting.append(other)
    return found


def averages(values: np.ndarray, between: np.ndarray, sigma: float) -> np.ndarray:
    """Of values (C,N) float64."""
    affinity = np.exp(-between / sigma)
    return values @ affinity / affinity.sum(0)
