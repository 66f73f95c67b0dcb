"""Objects as label images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wss.labels import UNLABELLED
from wss.scribbles.rasters import on_pixels, trace
from wss.scribbles.strokes import Stroke


class Window(NamedTuple):
    """A part of an image, in pixels."""

    x: int
    y: int
    width: int
    height: int


def paint(
    objects: Sequence[dict[str, Any]],
    shape: tuple[int, int],
    window: Window | None = None,
    below: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Paint objects in their order, later ones over earlier ones. Boxes are not painted.

    Args:
        objects: See PROTOCOL.md.
        shape: Height and width of the image.
        window: The part to paint; None paints the whole image.
        below: Labels that are there already, uint8, of the window; they are not erased.

    Returns:
        uint8 (H,W) of the window, 255 where nothing is drawn.
    """
    window = window or Window(0, 0, shape[1], shape[0])
    labels = np.full((window.height, window.width), UNLABELLED, np.uint8)
    for item in objects:
        if item["kind"] == "region":
            rows, columns = slice(window.y, window.y + window.height), slice(window.x, window.x + window.width)
            labels[region_pixels(item["rle"])[rows, columns]] = item["class"]
        elif item["kind"] != "box":
            pixels = on_pixels(_points(item), shape) - (window.x, window.y)
            trace(labels, pixels, item.get("class", UNLABELLED), _brush(item))
    if below is not None:
        labels = np.where(labels == UNLABELLED, below, labels)
    return labels


def shrunk(objects: Sequence[dict[str, Any]], scale: int) -> list[dict[str, Any]]:
    """The objects on a copy of the image whose sides are divided by ``scale`` and rounded up; lines stay one pixel wide."""
    smaller: list[dict[str, Any]] = []
    for item in objects:
        if item["kind"] == "region":
            inside = region_pixels(item["rle"])[scale // 2 :: scale, scale // 2 :: scale]
            height, width = (-(-side // scale) for side in item["rle"]["size"])
            inside = np.pad(inside, ((0, height - inside.shape[0]), (0, width - inside.shape[1])), "edge")
            smaller.append({**item, "rle": region_runs(inside, Window(0, 0, width, height), (height, width))})
        elif item["kind"] == "point":
            smaller.append({**item, "x": item["x"] / scale, "y": item["y"] / scale, "width": item["width"] / scale})
        elif item["kind"] != "box":
            points = [[x / scale, y / scale] for x, y in item["points"]]
            smaller.append({**item, "points": points, "width": item["width"] / scale})
    return smaller


def boxes_of(objects: Sequence[dict[str, Any]], shape: tuple[int, int]) -> list[tuple[int, int, int, int, int]]:
    """Boxes as rows ``class, x0, y0, x1, y1`` of pixels, both corners inside; those that miss the image are left out."""
    rows = []
    for item in objects:
        if item["kind"] != "box":
            continue
        x0, x1 = sorted((item["x0"], item["x1"]))
        y0, y1 = sorted((item["y0"], item["y1"]))
        left, top = max(0, int(np.floor(x0))), max(0, int(np.floor(y0)))
        right, bottom = min(shape[1], int(np.ceil(x1))) - 1, min(shape[0], int(np.ceil(y1))) - 1
        if right >= left and bottom >= top:
            rows.append((int(item["class"]), left, top, right, bottom))
    return rows


def strokes_of(objects: Sequence[dict[str, Any]]) -> list[Stroke]:
    """Strokes and points as polylines, without what is erased or accepted."""
    drawn = [item for item in objects if item["kind"] in ("stroke", "point")]
    return [Stroke(item["class"], _points(item), _brush(item)) for item in drawn]


def region_pixels(runs: dict[str, Any]) -> NDArray[np.bool_]:
    """Run lengths down the columns as pixels, bool (H,W)."""
    height, width = runs["size"]
    counts = np.asarray(runs["counts"], np.int64)
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def region_runs(inside: NDArray[np.bool_], window: Window, shape: tuple[int, int]) -> dict[str, Any]:
    """Pixels of a part of an image as run lengths down the columns of the image.

    Args:
        inside: bool, of the window.
        window: The part.
        shape: Height and width of the image.
    """
    columns = np.zeros((window.width, window.height + 1), np.int8)
    columns[:, :-1] = inside.T
    steps = np.diff(columns, axis=1, prepend=0)
    column, row = np.nonzero(steps)
    places = (window.x + column) * shape[0] + window.y + row  # by turns where a run begins and ends
    counts = np.diff(np.concatenate([[0], places, [shape[0] * shape[1]]]))
    return {"size": list(shape), "counts": counts.tolist()}


def _points(item: dict[str, Any]) -> NDArray[np.float64]:
    """Points of a stroke (N,2). Centres of pixels have whole coordinates in strokes, and halves on the page."""
    points = [[item["x"], item["y"]]] if item["kind"] == "point" else item["points"]
    return np.asarray(points, np.float64) - 0.5


def _brush(item: dict[str, Any]) -> int:
    return max(1, round(float(item["width"])))
