"""Borders between regions as arcs: ordered chains of pixel sides between the same two regions, and their directions."""

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
    """S pixel sides between two regions. The sides of an arc are in the order of a walk along it.

    Attributes:
        pixels: Index (S,2), flat indices of the two pixels at the side: left and right, or above and below.
        start: Index (S,2), corner (y, x) at which the walk enters the side. Pixel (y, x) has the corners (y, x) to
            (y + 1, x + 1).
        end: Index (S,2), corner at which the walk leaves the side. It is the ``start`` of the arc's next side.
        arc: Index (S,), number of the arc, ascending from 0. Arcs end where three or four sides meet and at the border
            of the image. Rings end at an arbitrary corner.
    """

    pixels: Index
    start: Index
    end: Index
    arc: Index


def trace_arcs(regions: NDArray[Any]) -> Sides:
    """Find the borders between regions as arcs.

    Args:
        regions: Ids of regions, integers (H,W).

    Returns:
        All pixel sides between different regions, sorted by arc. The order of the arcs and the direction of each walk
        have no meaning.
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
    # Step k walks along side k from tail to head; step k + count walks along the same side from head to tail.
    start, end = np.concatenate([tail, head]), np.concatenate([head, tail])
    following = _following(start, end, (height + 1) * corners)
    sides = np.arange(2 * count) % max(count, 1)
    links = coo_matrix((np.ones(2 * count, bool), (sides, sides[following])), shape=(count, count))
    _, arc = connected_components(links, directed=False)
    _open_rings(following, arc)
    last, distance = _walk_to_the_end(following)
    # Each direction of an arc has a last step. The direction whose last step has the lower number is taken.
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
    """For each step, the step that follows it; the step itself if the arc ends there."""
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
    """Cut each ring at its first side, in both directions. Changes ``following`` in place."""
    count = len(arc)
    ends = following == np.arange(2 * count)
    open_arcs = np.unique(arc[np.nonzero(ends)[0] % max(count, 1)])
    _, first = np.unique(arc, return_index=True)
    first = first[~np.isin(arc[first], open_arcs)]
    before = (following[first + count] + count) % (2 * count)  # the step that leads to the ring's first one
    following[before] = before
    following[first + count] = first + count


def _walk_to_the_end(following: Index) -> tuple[Index, Index]:
    """For each step, the last step of its walk and the number of steps to it."""
    last = following
    distance = (following != np.arange(len(following))).astype(np.int64)
    while True:
        further = last[last]
        if (further == last).all():
            return last, distance
        distance = distance + distance[last]
        last = further


def straight_directions(sides: Sides, *, deviation: float = 0.1, least_px: float = 1.0) -> NDArray[np.float64]:
    """The direction of the arc at each side: the direction of the straight segment that approximates the arc there.

    An arc is first approximated by the segment between its ends. A segment is split at the farthest corner of its part
    of the arc, as long as the distance of this corner is larger than a share of the segment's length.

    Args:
        sides: Arcs.
        deviation: The share. A smaller value gives more, shorter segments.
        least_px: Corners up to this distance never split a segment, because the sides follow the pixel grid in stairs.

    Returns:
        float64 (S,2), unit vectors (y, x); (0, 0) if a segment starts and ends at the same corner.

    Source: Arbelaez, Maire, Fowlkes, Malik 2011, section 4.1: the scale-invariant criterion of subdivision.
    Differs: ``least_px`` is ours, because arcs run between pixels here and are stairs.
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
    """Distance of each point to a segment from the origin to ``chord``."""
    squared = (chord**2).sum(1)
    along = (point * chord).sum(1) / np.where(squared > 0, squared, 1)
    away = point - np.clip(along, 0, 1)[:, None] * chord
    distance: NDArray[np.float64] = np.hypot(away[:, 0], away[:, 1])
    return distance
