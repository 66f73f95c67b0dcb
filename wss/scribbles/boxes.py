"""Bounding boxes: made from the regions of a dense mask, and converted to labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wss.labels import UNLABELLED
from wss.scribbles.rasters import check_raster, noticed


def boxes_of(mask: NDArray[np.uint8], *, background: int | None, min_area: int | None = None) -> NDArray[np.int32]:
    """The bounding boxes of the connected regions of a dense mask.

    They replace the boxes that a person would draw around objects. Objects of one class that touch share a box. An object that
    another object cuts in two gets two boxes.

    Args:
        mask: uint8 (H, W), class indices and 255 for void.
        background: Class without boxes, or None if every class has boxes.
        min_area: Regions with fewer pixels are skipped, except for the largest region of each class in the image. None: 1/1000
            of the image.

    Returns:
        int32 (N, 5), rows ``class, x0, y0, x1, y1`` in inclusive pixels, by ascending class.

    Raises:
        UsageError: ``mask`` is not uint8 (H, W).
    """
    check_raster(mask, "a dense mask")
    rows = []
    for region in noticed(mask, min_area):
        if region.label != background:
            y, x = region.window
            rows.append((region.label, x.start, y.start, x.stop - 1, y.stop - 1))
    return np.array(rows, np.int32).reshape(-1, 5)


def box_labels(boxes: NDArray[np.integer], shape: tuple[int, int], *, background: int | None) -> NDArray[np.uint8]:
    """Labels from boxes: pixels outside all boxes are background, pixels inside a box are unlabelled.

    Args:
        boxes: Integers (N, 5), rows ``class, x0, y0, x1, y1`` in inclusive pixels; parts outside the image are cut off.
        shape: Height and width of the image in pixels.
        background: Index of the background class, or None, which leaves every pixel unlabelled.

    Returns:
        uint8 (H, W), ``background`` or 255.
    """
    labels: NDArray[np.uint8] = np.full(shape, UNLABELLED if background is None else background, np.uint8)
    for _, rows, columns in box_windows(boxes, shape):
        labels[rows, columns] = UNLABELLED
    return labels


def box_windows(boxes: NDArray[np.integer], shape: tuple[int, int]) -> list[tuple[int, slice, slice]]:
    """Class, rows and columns of each box, clipped to the image. Boxes completely outside are skipped.

    Args:
        boxes: Integers (N, 5), rows ``class, x0, y0, x1, y1`` in inclusive pixels.
        shape: Height and width of the image in pixels.
    """
    windows = []
    for label, x0, y0, x1, y1 in boxes.tolist():
        rows, columns = slice(max(y0, 0), min(y1 + 1, shape[0])), slice(max(x0, 0), min(x1 + 1, shape[1]))
        if rows.start < rows.stop and columns.start < columns.stop:
            windows.append((label, rows, columns))
    return windows
