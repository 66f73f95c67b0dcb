"""Non-maximum suppression: thin edge maps by keeping only ridges."""

from __future__ import annotations

import cv2
import numpy as np

from wss.edges.detector import EdgeMap
from wss.errors import DataError


def suppress_non_maxima(
    edges: EdgeMap, *, radius_px: int = 1, smooth: bool = True, orientation_sigma_px: float = 2.0, border_px: int = 5
) -> EdgeMap:
    """Keep edge strengths on ridges and set all others to 0.

    The direction across a ridge is that of the most negative second derivative of the smoothed map. A pixel is kept when
    no value at distance 1 to ``radius_px`` on either side, bilinearly interpolated, is larger.

    Args:
        edges: Float32 (H,W) in [0,1].
        radius_px: Largest distance of the values that are compared.
        smooth: Average with the neighbours first (binomial weights over 3x3), which breaks plateaus.
        orientation_sigma_px: Standard deviation of the Gaussian before the derivatives.
        border_px: Within this distance of the image's border, strengths fall linearly to 0 at the border, because
            detectors respond to the border itself.

    Returns:
        Float32 (H,W), with ridges one pixel wide.

    Raises:
        DataError: The map is not a float array (H,W).

    Source: Canny 1986, with orientation and border as in the published evaluation of structured forests (Dollar and
        Zitnick 2015, arXiv:1406.5549).
    Differs: the orientation is an eigenvector of the Hessian, whose sign does not matter. The published evaluation also
        keeps pixels up to 1 % below their neighbours and thins afterwards; here only the crest is kept. Maps that
        saturate, as with class-balanced losses, would give bands of several pixels with the 1 %.
    """
    if edges.ndim != 2 or edges.dtype.kind != "f":
        raise DataError(f"expected an edge map as float (H,W) in [0,1], got {edges.dtype} {edges.shape}")
    height, width = edges.shape
    values: EdgeMap = np.ascontiguousarray(edges, np.float32)
    if smooth:
        kernel = np.array([0.25, 0.5, 0.25], np.float32)
        smoothed = cv2.sepFilter2D(values, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
        values = np.asarray(smoothed, np.float32)
    across_x, across_y = _across(values, orientation_sigma_px)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    keep = values > 0
    for step in range(1, radius_px + 1):
        for sign in (-step, step):
            other = cv2.remap(
                values, x + sign * across_x, y + sign * across_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            keep &= values >= other
    fade = np.minimum(1, _from_border(height, border_px)[:, None]) * np.minimum(1, _from_border(width, border_px))
    result: EdgeMap = np.where(keep, values * fade, 0).astype(np.float32)
    return result


def _across(values: EdgeMap, sigma: float) -> tuple[EdgeMap, EdgeMap]:
    """Unit vectors (x, y) across the ridge at every pixel: the main axis of the negated Hessian."""
    soft = cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    xx, yy, xy = (
        cv2.Sobel(soft, cv2.CV_32F, dx, dy, ksize=3, borderType=cv2.BORDER_REPLICATE)
        for dx, dy in ((2, 0), (0, 2), (1, 1))
    )
    # Scales: Sobel's second derivatives smooth with weights of sum 4; the mixed one takes two differences of step 2.
    angle = 0.5 * np.arctan2(-2 * xy, yy - xx)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def _from_border(length: int, border: int) -> EdgeMap:
    if border == 0:
        return np.ones(length, np.float32)
    place = np.arange(length)
    share: EdgeMap = (np.minimum(place, length - 1 - place) / border).astype(np.float32)
    return share
