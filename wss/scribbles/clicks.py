"""Clicks: one point per object from dense masks, and labels of the pixels around points."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError
from wss.labels import UNLABELLED
from wss.scribbles.rasters import brush_width, check_raster, noticed, rasterise
from wss.scribbles.strokes import Stroke


def click(mask: NDArray[np.uint8], seed: int, *, width: int | None = None, min_area: int | None = None) -> list[Stroke]:
    """Make one click on each region of a dense mask, at a random place in its inner part.

    The place is drawn uniformly from the pixels whose distance to the region's boundary is at least half of the largest such
    distance. All pixels of the click are inside the region.

    Args:
        mask: uint8 (H, W), class indices and 255 for void.
        seed: Seed of the random choices; ``image_seed`` gives one per image.
        width: Largest diameter in pixels. None: 1/125 of the image's shorter side, as in ``simulate``. Clicks near the boundary
            are smaller.
        min_area: Regions with fewer pixels are skipped, except for the largest region of each class in the image. None: 1/1000
            of the image.

    Returns:
        Strokes of one point, by ascending class, with integer coordinates. Empty if the whole mask is void.

    Raises:
        UsageError: ``mask`` is not uint8 (H, W), or ``width`` is below 1.

    Source: Bearman et al. 2016, "What's the Point: Semantic Segmentation with Point Supervision", arXiv:1506.02106: one
        point per instance.
    Differs: their annotators clicked on every instance. Regions of a mask are instances only if no instances of one class touch
        and none is cut in two by another object.
    """
    check_raster(mask, "a dense mask")
    brush = brush_width(mask, width)
    rng = np.random.default_rng(seed)
    strokes = []
    for region in noticed(mask, min_area):
        rows, columns = region.window
        inside = np.pad(region.inside, 1).view(np.uint8)
        depth = np.asarray(cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
        inner = np.argwhere(depth >= depth.max() / 2)
        y, x = inner[rng.integers(len(inner))]
        point = np.array([[columns.start + x - 1, rows.start + y - 1]], np.float64)
        # All pixels nearer than the depth are inside. A brush of even width is half a pixel off and reaches w / 2 + 0.71.
        strokes.append(Stroke(region.label, point, int(np.clip(2 * depth[y, x] - 1.5, 1, brush))))
    return strokes


def surrounded(
    strokes: Sequence[Stroke], shape: tuple[int, int], *, background: int, radii: float
) -> NDArray[np.uint8]:
    """Label points, label pixels far from all points as background, and leave the pixels between unlabelled.

    The three zones correspond to a Gaussian around each point with two thresholds: labelled above the upper one, unlabelled
    between them, background below the lower one. If the standard deviation is the point's radius, the thresholds are exp(-1/2)
    and exp(-radii^2 / 2).

    Args:
        strokes: Points; the radius of a point is half its width. For longer strokes, the nearest of their points counts.
        shape: Height and width of the image in pixels.
        background: Index of the background class.
        radii: Distance from a point, in multiples of its radius, up to which pixels stay unlabelled; at least 1.

    Returns:
        uint8 (H, W). Without any stroke, all pixels are background.

    Raises:
        UsageError: ``radii`` is below 1, or a stroke cannot be drawn.

    Source: Ke, Hwang and Yu 2021, "Universal Weakly Supervised Segmentation by Pixel-to-Segment Contrastive Learning",
        appendix A.3. The paper gives no thresholds.
    """
    if radii < 1:
        raise UsageError(f"expected a distance of at least 1 radius, got {radii}")
    labels = rasterise(strokes, shape)
    near = labels != UNLABELLED
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    for stroke in strokes:
        reach = radii * stroke.width / 2
        for x, y in stroke.points:
            near |= (columns - x) ** 2 + (rows - y) ** 2 <= reach**2
    labels[~near] = background
    return labels
