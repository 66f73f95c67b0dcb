"""What a person drew on one image: lines, areas, or painted pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wss.scribbles.strokes import Stroke


@dataclass(frozen=True)
class Drawing:
    """The annotation of one image as its file has it.

    Attributes:
        shape: Height and width of the image.
        strokes: Lines and points.
        areas: Label and outline, float64 (N, 2) of x and y, of each area in the order of drawing.
        raster: Painted labels, uint8 (H, W) with 255 where nothing was painted, or None.
    """

    shape: tuple[int, int]
    strokes: tuple[Stroke, ...] = ()
    areas: tuple[tuple[int, NDArray[np.float64]], ...] = ()
    raster: NDArray[np.uint8] | None = None


def box_outline(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The four corners (4, 2) of the box between two opposite ones (2, 2)."""
    (x0, y0), (x1, y1) = points
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def ellipse_outline(centre: NDArray[np.float64], radii: tuple[float, float]) -> NDArray[np.float64]:
    """64 points (64, 2) on an upright ellipse."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return centre + np.stack([radii[0] * np.cos(angle), radii[1] * np.sin(angle)], 1)
