"""Overlays of labels, scribbles and boxes on images."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError
from wss.labels import UNLABELLED
from wss.viz.palette import colourise

Picture = NDArray[np.uint8]
"""uint8 (H, W, 3), RGB."""

_ROWS = 256
"""Number of rows that are blended at a time."""


def overlay(
    image: Picture,
    labels: NDArray[Any],
    palette: NDArray[np.uint8],
    *,
    alpha: float = 0.55,
    contours: bool = True,
    unpainted: int | None = None,
) -> Picture:
    """Paint labels over an image: regions as a tint, their borders as solid lines.

    Args:
        image: uint8 (H, W, 3), RGB.
        labels: Integers (H, W), class indices and 255 (painted in the void colour).
        palette: uint8 (K, 3), RGB.
        alpha: Opacity of the tint, 0..1.
        contours: Draw the borders of regions, each on its own side.
        unpainted: A class that is not painted, usually the background.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        DataError: A label that is neither a class nor 255.
        UsageError: ``image`` and ``labels`` differ in size or are of the wrong type.
    """
    check_image(image, labels)
    colours = colourise(labels, palette)
    opacity = np.full(labels.shape, alpha, np.float32)
    if contours:
        opacity[_borders(labels, max(1, round(min(labels.shape) / 200)))] = 1
    if unpainted is not None:
        opacity[labels == unpainted] = 0
    return _blend(image, colours, opacity)


def scribble_overlay(
    image: Picture, scribble: NDArray[Any], palette: NDArray[np.uint8], *, thickness_px: float | None = None
) -> Picture:
    """Draw scribbles over a pale version of an image, with a light rim and thick enough to be visible in small pictures.

    Args:
        image: uint8 (H, W, 3), RGB.
        scribble: Integers (H, W), class indices where drawn, 255 elsewhere.
        palette: uint8 (K, 3), RGB.
        thickness_px: Drawn width of a line of one pixel; None: 1.6 % of the longer side, at least 3 pixels.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        DataError: A label that is neither a class nor 255.
        UsageError: ``image`` and ``scribble`` differ in size or are of the wrong type.
    """
    check_image(image, scribble)
    colours = colourise(scribble, palette)
    paled = _blend(image, 255, np.full(scribble.shape, 0.3, np.float32))
    drawn = scribble != UNLABELLED
    if not drawn.any():
        return paled
    radius = (thickness_px if thickness_px is not None else max(3.0, 0.016 * max(scribble.shape))) / 2
    # Every pixel takes the class of the nearest scribble, so thickened lines share the space between them.
    distance, nearest = cv2.distanceTransformWithLabels(
        (~drawn).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colour_of = np.zeros((int(nearest.max()) + 1, 3), np.uint8)
    colour_of[nearest[drawn]] = colours[drawn]
    inside = distance <= radius
    paled[distance <= radius + max(1.0, radius / 3)] = 255
    paled[inside] = colour_of[nearest[inside]]
    return paled


def box_overlay(
    image: Picture,
    labels: NDArray[Any],
    boxes: NDArray[np.integer],
    palette: NDArray[np.uint8],
    *,
    background: int | None = None,
) -> Picture:
    """Draw boxes as outlines with a light rim over a pale version of an image, and paint the labels inside them.

    Args:
        image: uint8 (H, W, 3), RGB.
        labels: Integers (H, W), class indices where labelled, 255 elsewhere.
        boxes: Integers (N, 5), rows ``class, x0, y0, x1, y1`` in inclusive pixels; later boxes are drawn on top.
        palette: uint8 (K, 3), RGB.
        background: A class that is not drawn: the class outside all boxes.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        DataError: A label that is neither a class nor 255.
        UsageError: ``image`` and ``labels`` differ in size or are of the wrong type.
    """
    inside = labels if background is None else np.where(labels == background, UNLABELLED, labels)
    drawn = scribble_overlay(image, inside, palette, thickness_px=1)
    width = max(1, round(0.008 * max(labels.shape)))
    for label, x0, y0, x1, y1 in boxes.tolist():
        for colour, thickness in (((255, 255, 255), width + 2), (palette[label].tolist(), width)):
            cv2.rectangle(drawn, (x0, y0), (x1, y1), colour, thickness)
    return drawn


def outlined(image: Picture, regions: NDArray[Any]) -> Picture:
    """Draw the borders between regions over an image, one pixel wide and yellow.

    Args:
        image: uint8 (H, W, 3), RGB.
        regions: Integers (H, W), any values.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        UsageError: ``image`` and ``regions`` differ in size or are of the wrong type.
    """
    check_image(image, regions)
    border = np.zeros(regions.shape, bool)
    border[:, :-1] |= regions[:, :-1] != regions[:, 1:]
    border[:-1] |= regions[:-1] != regions[1:]
    drawn: Picture = np.where(border[..., None], np.array([255, 230, 0], np.uint8), image)
    return drawn


def spotlight(image: Picture, mask: NDArray[np.bool_]) -> Picture:
    """Dim an image outside a mask, and draw a yellow line around the mask.

    Args:
        image: uint8 (H, W, 3), RGB.
        mask: bool (H, W).

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        UsageError: ``image`` and ``mask`` differ in size or are of the wrong type.
    """
    check_image(image, mask)
    dimmed = _blend(image, 0, np.where(mask, 0, 0.5).astype(np.float32))
    width = max(1, round(min(mask.shape) / 150))
    ring = _borders(mask, width) & ~mask
    drawn: Picture = np.where(ring[..., None], np.array([255, 230, 0], np.uint8), dimmed)
    return drawn


def check_image(image: NDArray[Any], labels: NDArray[Any]) -> None:
    """Check that ``image`` is a picture with the size of ``labels``.

    Raises:
        UsageError: ``image`` and ``labels`` differ in size, or ``image`` is not uint8 (H, W, 3).
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(f"expected an image as uint8 (H, W, 3), got {image.dtype} {image.shape}")
    if image.shape[:2] != labels.shape:
        raise UsageError(
            f"image is {image.shape[:2]}, labels are {labels.shape}; both must have the same height and width"
        )


def _borders(labels: NDArray[Any], width: int) -> NDArray[np.bool_]:
    """Pixels with another label at most ``width`` rows and columns away."""
    values, square = labels.astype(np.uint8), np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    borders: NDArray[np.bool_] = cv2.dilate(values, square) != cv2.erode(values, square)
    return borders


def _blend(image: Picture, colours: Picture | int, opacity: NDArray[np.float32]) -> Picture:
    """Blend an image with colours. A few rows are blended at a time, because large images need much memory as floats."""
    mixed = np.empty_like(image)
    targets = np.broadcast_to(np.asarray(colours, np.uint8), image.shape)
    for top in range(0, image.shape[0], _ROWS):
        rows = slice(top, top + _ROWS)
        below = image[rows].astype(np.float32)
        mixed[rows] = np.rint(below + opacity[rows, :, None] * (targets[rows] - below))
    return mixed
