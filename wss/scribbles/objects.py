"""Assignment of scribbles to objects, by connected regions of a mask or by contact between scribbles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import overload

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from wss.errors import UsageError
from wss.labels import UNLABELLED
from wss.scribbles.rasters import check_raster, check_stroke, components, rasterise
from wss.scribbles.strokes import Stroke


def scribbled_objects(
    scribbles: Sequence[Stroke] | NDArray[np.uint8], shape: tuple[int, int], mask: NDArray[np.uint8] | None = None
) -> NDArray[np.int64]:
    """Assign scribbles to objects, and number the objects.

    With a mask, all scribbles of a class in the same connected region of this class belong to one object. Only pixels of a
    scribble on its own class count; the scribble belongs to the region with most of these pixels. Without a mask, or if no pixel
    of a scribble is on its class in the mask, scribbles of one class that touch or overlap belong to one object. If they touch
    scribbles in several regions, they belong to the first region.

    Regions of the background count as objects too. Objects of one class that touch in the mask count as one, and an object that
    another object cuts in two counts as two, because class masks do not separate them.

    Args:
        scribbles: Strokes, or a raster scribble, uint8 (H, W) with 255 = unlabelled, whose 8-connected components of equal label
            are the scribbles.
        shape: Height and width of the image in pixels.
        mask: Dense mask, uint8 (H, W), class indices and 255 for void; None if there is no mask.

    Returns:
        Object ids from 0: int64 (N,), one per stroke, or int64 (H, W), -1 on unlabelled pixels.

    Raises:
        UsageError: The scribbles are malformed, or the scribble or the mask has another shape.
    """
    if mask is not None:
        check_raster(mask, "a dense mask")
        if mask.shape != shape:
            raise UsageError(f"expected a mask of the image's shape {shape}, got {mask.shape}")
    if isinstance(scribbles, np.ndarray):
        check_raster(scribbles, "a raster scribble")
        if scribbles.shape != shape:
            raise UsageError(f"expected a scribble of the image's shape {shape}, got {scribbles.shape}")
        parts = list(components(scribbles))
        pixels = [np.flatnonzero(_placed(part.window, part.inside, shape)) for part in parts]
        numbers = _joined([part.label for part in parts], pixels, shape, mask)
        ids = np.full(scribbles.size, -1, np.int64)
        for number, where in zip(numbers, pixels, strict=True):
            ids[where] = number
        return ids.reshape(shape)
    for index, stroke in enumerate(scribbles):
        check_stroke(stroke, index)
    drawn = [np.flatnonzero(rasterise([stroke], shape) != UNLABELLED) for stroke in scribbles]
    return _joined([stroke.label for stroke in scribbles], drawn, shape, mask)


@overload
def one_each(scribbles: Sequence[Stroke], objects: NDArray[np.integer], seed: int) -> list[Stroke]: ...
@overload
def one_each(scribbles: NDArray[np.uint8], objects: NDArray[np.integer], seed: int) -> NDArray[np.uint8]: ...
def one_each(
    scribbles: Sequence[Stroke] | NDArray[np.uint8], objects: NDArray[np.integer], seed: int
) -> list[Stroke] | NDArray[np.uint8]:
    """Keep one scribble of each object, chosen uniformly at random.

    Args:
        scribbles: Strokes, or a raster scribble, uint8 (H, W) with 255 = unlabelled.
        objects: Object ids from ``scribbled_objects``: integers (N,), one per stroke, or (H, W), one per labelled pixel.
        seed: Seed of the random choice; ``image_seed`` gives one per image.

    Returns:
        The same kind as ``scribbles``: one stroke per object, in order; or a new uint8 (H, W) with one component per object.
    """
    rng = np.random.default_rng(seed)
    if isinstance(scribbles, np.ndarray):
        parts = list(components(scribbles))
        owners = [int(objects[part.window][part.inside][0]) for part in parts]
        rest = np.full_like(scribbles, UNLABELLED)
        for index in _chosen(owners, rng):
            rest[parts[index].window][parts[index].inside] = parts[index].label
        return rest
    return [scribbles[index] for index in _chosen(objects.tolist(), rng)]


def _chosen(owners: Sequence[int], rng: np.random.Generator) -> list[int]:
    """One random index per owner, ascending."""
    members: dict[int, list[int]] = {}
    for index, owner in enumerate(owners):
        members.setdefault(owner, []).append(index)
    return sorted(int(rng.choice(indices)) for indices in members.values())


def _joined(
    labels: Sequence[int], pixels: Sequence[NDArray[np.intp]], shape: tuple[int, int], mask: NDArray[np.uint8] | None
) -> NDArray[np.int64]:
    """Object ids, int64 (N,), of N scribbles with these labels and flat pixel indices, numbered by first occurrence."""
    keys: dict[int, tuple[int, int]] = {}
    for label in dict.fromkeys(labels):
        mine = [index for index, other in enumerate(labels) if other == label]
        regions = _regions(None if mask is None else mask == label, [pixels[index] for index in mine])
        homes = {index: region for index, region in zip(mine, regions, strict=True) if region}
        strays = [index for index in mine if index not in homes]
        keys |= {
            index: (label, region) for index, region in {**homes, **_joining(strays, homes, pixels, shape)}.items()
        }
    order: dict[tuple[int, int], int] = {}
    return np.array([order.setdefault(keys[index], len(order)) for index in range(len(labels))], np.int64)


def _regions(inside: NDArray[np.bool_] | None, pixels: Sequence[NDArray[np.intp]]) -> list[int]:
    """For each scribble, the connected region of a class (from 1) that has most of its pixels; 0 for none."""
    if inside is None:
        return [0] * len(pixels)
    ids = cv2.connectedComponents(inside.view(np.uint8), connectivity=8)[1].ravel()
    regions = []
    for where in pixels:
        under = np.bincount(ids[where], minlength=2)
        regions.append(1 + int(under[1:].argmax()) if under[1:].any() else 0)
    return regions


def _joining(
    strays: Sequence[int], homes: Mapping[int, int], pixels: Sequence[NDArray[np.intp]], shape: tuple[int, int]
) -> dict[int, int]:
    """For each scribble without a region, the lowest region of the scribbles that it touches; a negative number if none.

    Args:
        strays: Scribbles of a class that are in no region of this class.
        homes: The region of each other scribble of that class.
        pixels: Flat indices of the pixels of every scribble.
        shape: Height and width of the image.
    """
    if not strays:
        return {}
    canvas = np.zeros(shape, np.uint8)
    for index in strays:
        canvas.flat[pixels[index]] = 1
    count, pieces = cv2.connectedComponents(canvas, connectivity=8)
    pieces = pieces.ravel()
    # a scribble that the image border cuts has several pieces
    ends = [(place, len(strays) + piece) for place, i in enumerate(strays) for piece in np.unique(pieces[pixels[i]])]
    rows, columns = np.array(ends, np.int64).reshape(-1, 2).T
    nodes = len(strays) + count
    groups = connected_components(
        coo_array((np.ones(len(ends)), (rows, columns)), shape=(nodes, nodes)), directed=False
    )[1]

    nowhere = float(canvas.size)  # more than there can be regions
    nearest = np.full(shape, nowhere)
    for index, region in homes.items():
        nearest.flat[pixels[index]] = np.minimum(nearest.flat[pixels[index]], region)
    lowest = np.asarray(cv2.erode(nearest, np.ones((3, 3), np.uint8)), np.float64).ravel()
    region_of: dict[int, int] = {}
    for group in dict.fromkeys(groups[: len(strays)].tolist()):
        members = [index for place, index in enumerate(strays) if groups[place] == group]
        touched = min(float(lowest[pixels[index]].min(initial=nowhere)) for index in members)
        region_of |= dict.fromkeys(members, int(touched) if touched < nowhere else -1 - group)
    return region_of


def _placed(window: tuple[slice, slice], inside: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    whole = np.zeros(shape, bool)
    whole[window] = inside
    return whole
