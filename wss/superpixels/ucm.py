"""Superpixels from an ultrametric contour map: basins of an edge map, merged in order of the boundaries between them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wss.ops.arcs import Sides, straight_directions, trace_arcs
from wss.ops.hierarchy import Hierarchy, agglomerate
from wss.superpixels.superpixel_method import EdgeMap, SuperpixelMethod

SIGMA_PX = 1.0
"""Gaussian that smooths edge maps before basins are sought: each local minimum is one."""
ORIENTATION_SIGMA_PX = 2.0
"""Gaussian over which the orientation of edges is averaged."""


class Ucm(SuperpixelMethod):
    """Basins of an edge map merge across the weakest boundary first, until one of a given strength or a number is reached.

    Source: Arbelaez, Maire, Fowlkes, Malik: Contour detection and hierarchical image segmentation, 2011; see
        ``contour_hierarchy``.
    """

    name: Literal["ucm"] = "ucm"
    summary: ClassVar[str] = "basins of an edge map merged across weak boundaries, of irregular sizes"
    needs_edges: ClassVar[bool] = True

    threshold: float = Field(default=0.3, ge=0, le=1)
    """Boundaries up to this strength are removed; without effect where ``segments`` is given."""
    segments: int | None = Field(default=None, ge=1)
    """How many superpixels instead, or fewer where the edge map has fewer basins."""

    def _segment(self, image: NDArray[np.uint8], edges: EdgeMap | None) -> NDArray[Any]:
        hierarchy = contour_hierarchy(np.zeros(image.shape[:2], np.float32) if edges is None else edges)
        return hierarchy.at(self.threshold) if self.segments is None else hierarchy.into(self.segments)


def contour_hierarchy(edges: EdgeMap, *, oriented: bool = True) -> Hierarchy:
    """The hierarchy of regions of an edge map: from it, segmentations of any strength or number are cut without computing anew.

    The map is squared, smoothed and flooded from its local minima (the watershed), the borders between the basins are divided
    into arcs, and the basins are merged by the strength of their boundaries.

    Args:
        edges: float32 (H,W) in 0..1.
        oriented: Count an edge in full only where the boundary runs along it. Boundaries that a flood draws beside or across an
            edge get strength from pixels of an edge that runs elsewhere.

    Returns:
        Heights are strengths, in 0..1: the root of the mean square along a boundary.

    Source: Arbelaez, Maire, Fowlkes, Malik 2011, section 4: oriented watershed transform and ultrametric contour map.
    Differs: the paper's detector has a strength for each of eight orientations. Here there is one strength, and how much of it
        counts for a direction is told by the second moments of the map's gradients around the pixel: all along the main
        orientation, none across it where the edge is straight, all again where there is no main orientation, as at
        junctions. Basins meet between pixels and cover the image; a side counts the mean of the two pixels beside it. Squares
        are averaged, where the paper averages strengths: with maps of networks that were trained with balanced classes, which
        are high along many faint edges, regions on BSDS500 agree better with the annotators'.
    """
    energy: EdgeMap = np.asarray(
        cv2.GaussianBlur(edges**2, (0, 0), SIGMA_PX, borderType=cv2.BORDER_REPLICATE), np.float32
    )
    regions = _basins(energy)
    sides = trace_arcs(regions)
    strength: NDArray[np.float64] = energy.ravel()[sides.pixels].astype(np.float64).mean(1)
    if oriented:
        strength *= _along(energy, sides)
    hierarchy = agglomerate(regions, regions.ravel()[sides.pixels], strength)
    return replace(hierarchy, heights=np.sqrt(hierarchy.heights))


def _basins(edges: EdgeMap) -> NDArray[np.int32]:
    """The watershed from all local minima, int32 (H,W), ids from 0; every pixel belongs to a basin."""
    from scipy.ndimage import label
    from skimage.morphology import local_minima
    from skimage.segmentation import watershed

    minima, count = label(local_minima(edges, connectivity=1))  # type: ignore[no-untyped-call]
    if not count:  # a constant map
        return np.zeros(edges.shape, np.int32)
    basins: NDArray[np.int32] = watershed(edges, minima, connectivity=1).astype(np.int32) - 1  # type: ignore[no-untyped-call]
    return basins


def _along(edges: EdgeMap, sides: Sides) -> NDArray[np.float64]:
    """How much of the edges counts for the directions in which arcs run, float64 (S,) in 0..1."""
    dx, dy = (
        cv2.Scharr(edges, cv2.CV_32F, *order, scale=1 / 32, borderType=cv2.BORDER_REPLICATE)
        for order in ((1, 0), (0, 1))
    )
    yy, xy, xx = (
        cv2.GaussianBlur(product, (0, 0), ORIENTATION_SIGMA_PX, borderType=cv2.BORDER_REPLICATE)
        .ravel()[sides.pixels]
        .astype(np.float64)
        .mean(1)
        for product in (dy * dy, dx * dy, dx * dx)
    )
    y, x = straight_directions(sides).T
    across = x * x * yy - 2 * x * y * xy + y * y * xx  # the gradients' mean square across the direction
    largest = (xx + yy + np.sqrt((xx - yy) ** 2 + 4 * xy * xy)) / 2
    share: NDArray[np.float64] = np.where(largest > 0, across / np.where(largest > 0, largest, 1), 1)
    return np.sqrt(np.clip(share, 0, 1))
