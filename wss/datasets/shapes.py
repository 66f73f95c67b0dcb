"""Annotations that a person drew on one image: lines, areas, or painted pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

from wss.scribbles.strokes import Stroke

_FARTHEST = 2**20
"""Corners are cut off here: OpenCV counts in 32 bits and shifts them. No image reaches that far."""


@dataclass(frozen=True)
class Area:
    """A filled outline.

    Attributes:
        label: Class index, or 255: nothing is known there.
        outlines: One or more arrays, float64 (N, 2), of x and y. Pixels inside an even number of them are a hole.
        edged: True if 0 is the outer edge of the first pixel: pixels whose centre is inside are filled. Otherwise 0 is its
            centre, and pixels on the outline are filled too.
    """

    label: int
    outlines: tuple[NDArray[np.float64], ...]
    edged: bool = False

    def paint(self, labels: NDArray[np.uint8]) -> None:
        """Write the label into ``labels``, uint8 (H, W); an area of the image without any pixel's centre gets its outline."""
        if self.edged and self._fill(labels):
            return
        outlines = [np.floor(outline) if self.edged else np.rint(outline) for outline in self.outlines]
        cv2.fillPoly(labels, [np.clip(o, -_FARTHEST, _FARTHEST).astype(np.int32) for o in outlines], self.label)

    def _fill(self, labels: NDArray[np.uint8]) -> bool:
        """Fill pixels whose centre is inside; False if there are none."""
        points = np.concatenate(self.outlines)[:, ::-1] - 0.5
        low = np.clip(np.floor(points.min(0)), 0, labels.shape).astype(int)
        high = np.clip(np.ceil(points.max(0)) + 1, low, labels.shape).astype(int)
        inside = np.zeros(tuple(high - low), bool)
        for outline in self.outlines:
            rows, columns = (outline[:, ::-1] - 0.5 - low).T
            filled = polygon(rows, columns, inside.shape)  # type: ignore[no-untyped-call]
            inside[filled] = ~inside[filled]
        labels[low[0] : high[0], low[1] : high[1]][inside] = self.label
        return bool(inside.any())

    @property
    def size(self) -> float:
        """Area of the first outline in pixels."""
        x, y = self.outlines[0].T
        return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


@dataclass(frozen=True)
class Patch:
    """Painted pixels of one label.

    Attributes:
        label: Class index, or 255: nothing is known there.
        corner: Column and row of the upper left pixel of ``inside`` in the image.
        inside: bool (h, w), True where it is painted. Parts outside the image are cut off.
    """

    label: int
    corner: tuple[int, int]
    inside: NDArray[np.bool_]

    def paint(self, labels: NDArray[np.uint8]) -> None:
        """Write the label into ``labels``, uint8 (H, W), where it is painted."""
        left, top = self.corner
        inside = self.inside[max(-top, 0) :, max(-left, 0) :]
        window = labels[max(top, 0) :, max(left, 0) :][: inside.shape[0], : inside.shape[1]]
        window[inside[: window.shape[0], : window.shape[1]]] = self.label


@dataclass(frozen=True)
class Drawing:
    """The annotation of one image as its file has it.

    Attributes:
        shape: Height and width of the image.
        strokes: Lines and points. The label 255 erases labels below it.
        areas: Areas and painted pixels, in the order of drawing.
        raster: Painted labels, uint8 (H, W) with 255 where nothing was painted, or None.
        image: The file of the image, if the annotation's file names it.
    """

    shape: tuple[int, int]
    strokes: tuple[Stroke, ...] = ()
    areas: tuple[Area | Patch, ...] = ()
    raster: NDArray[np.uint8] | None = None
    image: str | None = None

    def beyond(self) -> int:
        """Number of shapes that are not on the image, or reach farther than a twentieth of its sides beyond it."""
        sides = np.array([self.shape[1], self.shape[0]])
        corners = [stroke.points for stroke in self.strokes]
        for area in self.areas:
            if isinstance(area, Area):
                corners.append(np.concatenate(area.outlines))
            else:
                size = np.array([area.inside.shape[1], area.inside.shape[0]])
                corners.append(np.array([area.corner, area.corner + size - 1.0]))
        margin = sides / 20 + 1
        return sum(
            bool(
                (points.max(0) < 0).any()
                or (points.min(0) > sides).any()
                or (points.min(0) < -margin).any()
                or (points.max(0) > sides + margin).any()
            )
            for points in corners
        )


def box_outline(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The four corners (4, 2) of the box between two opposite ones (2, 2)."""
    (x0, y0), (x1, y1) = points
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def ellipse_outline(centre: NDArray[np.float64], radii: tuple[float, float]) -> NDArray[np.float64]:
    """Points (N, 2) on an upright ellipse: at least 64, and enough that chords deviate by less than 0.1 pixels."""
    count = max(64, math.ceil(np.pi * math.sqrt(5 * min(max(map(abs, radii)), _FARTHEST))))
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return centre + np.stack([radii[0] * np.cos(angle), radii[1] * np.sin(angle)], 1)


def turned(outline: NDArray[np.float64], degrees: float, pivot: NDArray[np.float64]) -> NDArray[np.float64]:
    """An outline (N, 2) turned about a point, clockwise as seen on an image whose y axis points down."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.asarray(pivot + (outline - pivot) @ np.array([[cos, sin], [-sin, cos]]))


def inside_runs(runs: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Convert runs along the rows to a mask. Runs are alternately outside and inside; the first run is outside.

    Args:
        runs: Lengths of the runs, int64 (N,), not negative. Their sum is the number of pixels of ``shape``.
        shape: Height and width.

    Returns:
        bool (H, W).
    """
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape)
