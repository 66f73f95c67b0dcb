"""Shortening of scribbles to a random part, down to a single point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError
from wss.labels import UNLABELLED
from wss.scribbles.rasters import check_raster, check_stroke, components
from wss.scribbles.skeletons import nearest_pixel, shortest_paths, skeleton_of
from wss.scribbles.strokes import Stroke


@overload
def shrink(scribbles: Sequence[Stroke], rate: float, seed: int) -> list[Stroke]: ...
@overload
def shrink(scribbles: NDArray[np.uint8], rate: float, seed: int) -> NDArray[np.uint8]: ...
def shrink(scribbles: Sequence[Stroke] | NDArray[np.uint8], rate: float, seed: int) -> list[Stroke] | NDArray[np.uint8]:
    """Shorten each scribble to a random connected part of it, measured by arc length.

    A point is drawn uniformly along each scribble. On each side of the point, the fraction ``1 - rate`` of the arc length next to
    it is kept. So the start of the kept part is uniform over all possible starts. With the same seed, a larger rate keeps a part
    of the scribble that a smaller rate keeps.

    In rasters, a scribble is a connected component of equal label, and its arc length is the length of its skeleton. Branches are
    shortened from their tips inwards, so that ``1 - rate`` of the total length remains in one piece. The kept skeleton keeps its
    thickness: all pixels of the component whose nearest skeleton pixel is kept.

    Args:
        scribbles: Strokes, or a raster scribble, uint8 (H, W) with 255 = unlabelled.
        rate: Fraction of the length that is removed, in [0, 1]: 0 keeps all, 1 leaves one point (``length`` is 1 - rate).
        seed: Seed of the random choice; ``image_seed`` gives one per image.

    Returns:
        The same kind as ``scribbles``: the same number of strokes, with unchanged labels and widths; or a new uint8 (H, W), in
        which each component still exists and every pixel is either unchanged or 255. Scribbles of one point do not change.

    Raises:
        UsageError: ``rate`` is outside [0, 1], or the scribbles are malformed.

    Source:
        The scribble-shrink data set of RW-SS (2021), "every scribble in the image is shrunk randomly (even to a
        point)"; the length ratios of Regularized Losses (ECCV 2018).

    Differs:
        Neither paper says which part is kept or what happens at branches.
    """
    if not 0 <= rate <= 1:
        raise UsageError(f"expected a shrink rate in [0, 1], 0 keeps all and 1 leaves a point, got {rate}")
    rng = np.random.default_rng(seed)
    if isinstance(scribbles, np.ndarray):
        return _shrink_raster(scribbles, rate, rng)
    shorter = []
    for index, stroke in enumerate(scribbles):
        check_stroke(stroke, index)
        points = _part_of_polyline(stroke.points, rate, rng.random())
        shorter.append(Stroke(stroke.label, points, stroke.width))
    return shorter


@overload
def points(scribbles: Sequence[Stroke], seed: int) -> list[Stroke]: ...
@overload
def points(scribbles: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]: ...
def points(scribbles: Sequence[Stroke] | NDArray[np.uint8], seed: int) -> list[Stroke] | NDArray[np.uint8]:
    """Reduce each scribble to one click on it, as wide as the brush. This is ``shrink`` with rate 1.

    Args:
        scribbles: Strokes, or a raster scribble, uint8 (H, W) with 255 = unlabelled.
        seed: Seed of the random choice; ``image_seed`` gives one per image.

    Returns:
        The same kind as ``scribbles``: one-point strokes; or a new uint8 (H, W) with a cross-section of each component.

    Raises:
        UsageError: The scribbles are malformed.
    """
    return shrink(scribbles, 1.0, seed)


def _part_of_polyline(polyline: NDArray[np.float64], rate: float, position: float) -> NDArray[np.float64]:
    """Part of a polyline of arc length L: it starts at ``position * rate * L`` and is ``(1 - rate) * L`` long."""
    if rate == 0 or len(polyline) == 1:
        return polyline
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(polyline, axis=0).T))])
    length = travelled[-1]
    start = position * rate * length
    end = start + (1 - rate) * length
    ends = np.stack([np.interp((start, end), travelled, polyline[:, axis]) for axis in (0, 1)], 1)
    if start == end:
        return ends[:1]
    between = polyline[(travelled > start) & (travelled < end)]
    return np.concatenate([ends[:1], between, ends[1:]])


def _shrink_raster(mask: NDArray[np.uint8], rate: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Shorten every component of a raster scribble."""
    check_raster(mask, "a raster scribble")
    if rate == 0:
        return mask.copy()
    shorter = np.full_like(mask, UNLABELLED)
    for label, window, inside in components(mask):
        shorter[window][_part_of_component(inside, rate, rng.random())] = label
    return shorter


def _part_of_component(inside: NDArray[np.bool_], rate: float, position: float) -> NDArray[np.bool_]:
    """Connected part of a component around a point of its skeleton, with ``1 - rate`` of the component's arc length.

    Let d(x) be the geodesic distance of a skeleton pixel x from the point and r(x) the largest d beyond x. A pixel is
    kept if d(x) / r(x) is small. This ratio grows outwards along every arm. So any threshold keeps one connected piece, and a
    lower threshold keeps less. On a line without branches, both sides are shortened by the same factor.
    """
    if inside.sum() == 1:
        return inside
    skeleton = skeleton_of(inside)
    travelled = np.cumsum(skeleton.steps)
    root = int(np.abs(travelled - position * travelled[-1]).argmin())
    tree = shortest_paths(skeleton.graph, root)
    ratio = tree.distance / np.maximum(tree.reach, 1e-9)
    step = np.where(tree.parent >= 0, tree.distance - tree.distance[tree.parent], 0.0)
    outwards = np.argsort(ratio, kind="stable")
    kept = np.zeros(len(outwards), bool)
    kept[outwards] = np.cumsum(step[outwards]) <= (1 - rate) * step.sum() + 1e-9
    part: NDArray[np.bool_] = inside & kept[nearest_pixel(skeleton.pixels, inside.shape)]
    return part
