"""Scribbles as rasters: drawing of strokes, and connected components of label images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError
from wss.labels import UNLABELLED
from wss.scribbles.strokes import Stroke


class Component(NamedTuple):
    """A connected set of pixels of one label.

    Attributes:
        label: The pixels' common label.
        window: Row and column slices of its bounding box in the image.
        inside: bool, shape of the window, True on its pixels.
    """

    label: int
    window: tuple[slice, slice]
    inside: NDArray[np.bool_]


def brush_width(mask: NDArray[np.uint8], width: int | None) -> int:
    """Brush width for a mask (H, W) in pixels: ``width``, or by default 1/125 of the shorter side, at least 1.

    Raises:
        UsageError: ``width`` is below 1.
    """
    if width is not None and width < 1:
        raise UsageError(f"expected a brush of at least 1 pixel, got {width}")
    return max(1, round(min(mask.shape) / 125)) if width is None else width


def check_raster(mask: NDArray[np.uint8], what: str) -> None:
    """Check that ``mask`` is a label image.

    Raises:
        UsageError: ``mask`` is not uint8 (H, W).
    """
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise UsageError(
            f"expected {what} as uint8 (H, W) with {UNLABELLED} for pixels without a class, got {mask.dtype} of shape "
            f"{mask.shape}; convert class indices with .astype(numpy.uint8)"
        )


def components(mask: NDArray[np.uint8]) -> Iterator[Component]:
    """The 8-connected components of equal label, by ascending label; components of one label are in raster order.

    Args:
        mask: uint8 (H, W); pixels of value 255 belong to no component.
    """
    for label in np.unique(mask):
        if label == UNLABELLED:
            continue
        count, ids, stats, _ = cv2.connectedComponentsWithStats((mask == label).view(np.uint8), connectivity=8)
        for index in range(1, count):
            x, y, width, height = (int(value) for value in stats[index, :4])
            window = (slice(y, y + height), slice(x, x + width))
            yield Component(int(label), window, ids[window] == index)


def noticed(mask: NDArray[np.uint8], min_area: float | None = None) -> list[Component]:
    """The regions of a dense mask that are large enough for an annotator to notice, in the order of ``components``.

    Args:
        mask: uint8 (H, W), class indices and 255 for void.
        min_area: Regions with fewer pixels are skipped, except for the largest region of each class in the image. None: 1/1000
            of the image.
    """
    smallest = mask.size / 1000 if min_area is None else min_area
    regions = [(region, int(region.inside.sum())) for region in components(mask)]
    largest: dict[int, int] = {}
    for region, area in regions:
        largest[region.label] = max(area, largest.get(region.label, 0))
    return [region for region, area in regions if area >= min(smallest, largest[region.label])]


def connected_regions(mask: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Number the connected regions of a dense mask. They replace objects if there is no instance mask.

    Args:
        mask: uint8 (H, W) class indices, 255 = void.

    Returns:
        int32 (H, W), region ids from 0, -1 on void pixels.

    Raises:
        UsageError: ``mask`` is not uint8 (H, W).
    """
    check_raster(mask, "a dense mask")
    regions = np.full(mask.shape, -1, np.int32)
    for index, (_, window, inside) in enumerate(components(mask)):
        regions[window][inside] = index
    return regions


def rasterise(strokes: Sequence[Stroke], shape: tuple[int, int], *, width: int | None = None) -> NDArray[np.uint8]:
    """Draw strokes into a label image.

    A stroke is the trace of a round brush with a diameter of ``width`` pixels, along the 8-connected line through its points
    rounded to pixels. A stroke of one point leaves one dot of the brush, so it never vanishes. Where strokes overlap, the
    later one is on top. Points up to one pixel outside the image count as on its border, because tools disagree whether the
    right border is W - 1 or W. Points farther outside are cut off.

    Args:
        strokes: Scribbles in drawing order.
        shape: Height and width of the image in pixels.
        width: Brush width in pixels for all strokes; None uses each stroke's own width.

    Returns:
        uint8 (H, W), class indices where drawn and 255 elsewhere.

    Raises:
        UsageError: A label is outside 0..254, points are not finite or not (N, 2) with N >= 1, or a width is below 1.
    """
    raster: NDArray[np.uint8] = np.full(shape, UNLABELLED, np.uint8)
    for index, stroke in enumerate(strokes):
        brush = stroke.width if width is None else width
        check_stroke(stroke, index)
        if brush < 1:
            raise UsageError(f"stroke {index}: expected a brush width of at least 1 pixel, got {brush}")
        trace(raster, on_pixels(stroke.points, shape), stroke.label, brush)
    return raster


def on_pixels(points: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Round points to pixels. Points up to one pixel outside the image are moved to its border.

    Args:
        points: float64 (N, 2), x and y.
        shape: Height and width of the image.

    Returns:
        int64 (N, 2).
    """
    pixels = np.rint(points).astype(np.int64)
    border = np.array([shape[1], shape[0]])
    return np.where((pixels >= -1) & (pixels <= border), np.clip(pixels, 0, border - 1), pixels)


def check_stroke(stroke: Stroke, index: int) -> None:
    """Check that a stroke can be drawn.

    Raises:
        UsageError: The label is outside 0..254, or the points are not finite or not (N, 2) with N >= 1.
    """
    if not 0 <= stroke.label < UNLABELLED:
        raise UsageError(f"stroke {index}: expected a label in 0..254 (255 means unlabelled), got {stroke.label}")
    if stroke.points.ndim != 2 or stroke.points.shape[1] != 2 or len(stroke.points) == 0:
        raise UsageError(f"stroke {index}: expected points of shape (N, 2) with N >= 1, got {stroke.points.shape}")
    if not np.isfinite(stroke.points).all():
        raise UsageError(f"stroke {index}: expected finite coordinates, got NaN or infinity; remove the broken points")


def trace(raster: NDArray[np.uint8], points: NDArray[np.int64], label: int, brush: int) -> None:
    """Draw the trace of a round brush along one polyline, see ``rasterise``.

    Args:
        raster: uint8 (H, W), changed in place.
        points: int64 (N, 2), x and y, N >= 1; parts outside the raster are cut off.
        label: Value that is written.
        brush: Brush width in pixels.
    """
    # The line is drawn on a small canvas, thickened there and copied into the raster.
    height, width = raster.shape
    low = np.maximum(points.min(0) - brush, -brush)
    high = np.minimum(points.max(0) + brush, (width - 1 + brush, height - 1 + brush))
    if (high < low).any():
        return
    canvas: NDArray[np.uint8] = np.zeros((int(high[1] - low[1]) + 1, int(high[0] - low[0]) + 1), np.uint8)
    # A line of one repeated point still sets its pixel, so single points need no special case.
    line = (points - low).astype(np.int32) if len(points) > 1 else np.repeat(points - low, 2, 0).astype(np.int32)
    cv2.polylines(canvas, [line.reshape(-1, 1, 2)], False, 1)
    if brush > 1:
        offsets = np.arange(brush) - (brush - 1) / 2
        tip = (np.hypot(offsets[:, None], offsets) <= brush / 2).astype(np.uint8)
        canvas = np.asarray(cv2.dilate(canvas, tip), np.uint8)
    x, y = int(low[0]), int(low[1])
    rows, columns = slice(max(y, 0), y + canvas.shape[0]), slice(max(x, 0), x + canvas.shape[1])
    inner = raster[rows, columns]
    top, left = max(-y, 0), max(-x, 0)
    inner[canvas[top : top + inner.shape[0], left : left + inner.shape[1]] > 0] = label
