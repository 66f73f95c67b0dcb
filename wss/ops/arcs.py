"""Borders between regions as arcs: runs of sides of pixels that meet two regions, in order, approximated by straight segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Sides:
    """Sides of pixels between two regions, S of them; an arc's sides follow each other in the order of a walk along it.

    Attributes:
        pixels: Index (S,2), flat places of the pixels on both sides: left and right, or above and below.
        start: Index (S,2), corner (y, x) where a walk along the arc begins the side; pixel (y, x) has corners (y, x) to
            (y + 1, x + 1).
        end: Index (S,2), corner where it leaves the side, which is the ``start`` of the arc's next side.
        arc: Index (S,), ascending from 0. Arcs end where three or four sides meet, at the border of the image, and, if they
            are rings, anywhere.
    """

    pixels: Index
    start: Index
    end: Index
    arc: Index


def trace_arcs(regions: NDArray[Any]) -> Sides:
    """The borders between regions as arcs.

    Args:
        regions: Integers (H,W).

    Returns:
        All sides of pixels between different regions, by arc. Which arc comes first and in which direction each is walked
        has no meaning.
    """
    height, width = regions.shape
    y, x = np.nonzero(regions[:, :-1] != regions[:, 1:])
    v, u = np.nonzero(regions[:-1] != regions[1:])
    pixels = np.concatenate(
        [np.stack([y * width + x, y * width + x + 1], 1), np.stack([v * width + u, (v + 1) * width + u], 1)]
    )
    corners = width + 1
    tail = np.concatenate([y * corners + x + 1, (v + 1) * corners + u])
    head = np.concatenate([(y + 1) * corners + x + 1, (v + 1) * corners + u + 1])
    count = len(tail)
    # side k walked from tail to head is step k, walked from head to tail it is step k + count
    start, end = np.concatenate([tail, head]), np.concatenate([head, tail])
    following = _following(start, end, (height + 1) * corners)
    sides = np.arange(2 * count) % max(count, 1)
    links = coo_matrix((np.ones(2 * count, bool), (sides, sides[following])), shape=(count, count))
    _, arc = connected_components(links, directed=False)
    _open_rings(following, arc)
    last, distance = _walk_to_the_end(following)
    # both directions of an arc have a last step; the lower one says which direction is taken
    forward = last[:count] < last[count:]
    step = np.where(forward, np.arange(count), np.arange(count) + count)
    order = np.lexsort((-distance[step], arc))
    step = step[order]
    return Sides(
        pixels[order],
        np.stack(np.divmod(start[step], corners), 1),
        np.stack(np.divmod(end[step], corners), 1),
        arc[order].astype(np.int64),
    )


def _following(start: Index, end: Index, corners: int) -> Index:
    """The step that goes on where a step ends, or the step itself where an arc ends."""
    count = len(start) // 2
    following = np.arange(2 * count)
    passed = np.bincount(start, minlength=corners) == 2
    order = np.argsort(start, kind="stable")
    order = order[passed[start[order]]]
    leaving = np.empty(2 * count, np.int64)  # at a corner of two sides, the other step that leaves it
    leaving[order[0::2]], leaving[order[1::2]] = order[1::2], order[0::2]
    going = np.nonzero(passed[end])[0]
    following[going] = leaving[(going + count) % (2 * count)]
    return following


def _open_rings(following: Index, arc: NDArray[np.int32]) -> None:
    """Let each ring end at its first side, in both directions."""
    count = len(arc)
    ends = following == np.arange(2 * count)
    open_arcs = np.unique(arc[np.nonzero(ends)[0] % max(count, 1)])
    _, first = np.unique(arc, return_index=True)
    first = first[~np.isin(arc[first], open_arcs)]
    before = (following[first + count] + count) % (2 * count)  # the step that leads to the ring's first one
    following[before] = before
    following[first + count] = first + count


def _walk_to_the_end(following: Index) -> tuple[Index, Index]:
    """The last step of the walk that begins with each step, and how many steps further it is."""
    last = following
    distance = (following != np.arange(len(following))).astype(np.int64)
    while True:
        further = last[last]
        if (further == last).all():
            return last, distance
        distance = distance + distance[last]
        last = further


def straight_directions(sides: Sides, *, deviation: float = 0.1, least_px: float = 1.0) -> NDArray[np.float64]:
    """The direction of each side's arc there: that of the straight segment which approximates it.

    An arc is first approximated by the segment between its ends. A segment is divided at the farthest corner of its part of
    the arc as long as that is farther from it than a share of its length.

    Args:
        sides: Arcs.
        deviation: The share.
        least_px: Corners this near are near enough for short segments too: sides follow the grid in steps.

    Returns:
        float64 (S,2), unit vectors (y, x); (0, 0) where a segment ends where it begins.

    Source: Arbelaez, Maire, Fowlkes, Malik 2011, section 4.1: the scale-invariant criterion of subdivision.
    Differs: ``least_px``, since arcs run here between pixels and are stairs.
    """
    count = len(sides.arc)
    if not count:
        return np.zeros((0, 2))
    first = np.diff(sides.arc, prepend=-1) != 0
    start, end = sides.start.astype(np.float64), sides.end.astype(np.float64)
    places = np.arange(count)
    while True:
        begins = np.nonzero(first)[0]
        segment = np.cumsum(first) - 1
        chord = end[np.append(begins[1:], count) - 1] - start[begins]
        length = np.hypot(chord[:, 0], chord[:, 1])
        distance = _distance_to_chord(end - start[begins][segment], chord[segment])
        farthest = np.maximum.reduceat(distance, begins)
        divided = farthest > np.maximum(deviation * length, least_px)
        if not divided.any():
            direction: NDArray[np.float64] = (chord / np.where(length > 0, length, 1)[:, None])[segment]
            return direction
        candidates = np.where(distance == farthest[segment], places, count)
        first[np.minimum.reduceat(candidates, begins)[divided] + 1] = True


def _distance_to_chord(point: NDArray[np.float64], chord: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of points from segments that begin at the origin."""
    squared = (chord**2).sum(1)
    along = (point * chord).sum(1) / np.where(squared > 0, squared, 1)
    away = point - np.clip(along, 0, 1)[:, None] * chord
    distance: NDArray[np.float64] = np.hypot(away[:, 0], away[:, 1])
    return distance
