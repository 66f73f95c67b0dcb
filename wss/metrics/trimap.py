"""Bands along true boundaries, so that scores can tell how well objects are outlined."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wss.errors import UsageError


def boundary_distance(truth: NDArray[Any]) -> NDArray[np.float64]:
    """Distance of every pixel to the closest true boundary, in pixels.

    A boundary pixel is one of whose four neighbours another value is true. Void pixels (255) count as another value: where
    annotators left a strip between two regions, the boundary is that strip, and so are its borders.

    Args:
        truth: Class indices (H,W), 255 = void.

    Returns:
        float64 (H,W) between pixel centres, 0 on boundary pixels; infinite where the image has one value only.

    Raises:
        UsageError: Not (H,W).

    Source: Krähenbühl and Koltun 2011, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", evaluation
        (trimaps: bands around the boundaries of accurate masks), after Kohli, Ladicky and Torr 2009.
    """
    truth = np.asarray(truth)
    if truth.ndim != 2:
        raise UsageError(f"expected truth as (H,W), got shape {truth.shape}")
    boundary = np.zeros(truth.shape, bool)
    for axis in (0, 1):
        changes = np.diff(truth.astype(np.int64), axis=axis) != 0
        before, after = [(slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None))]
        boundary[before] |= changes
        boundary[after] |= changes
    if not boundary.any():
        return np.full(truth.shape, np.inf)
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(~boundary)
    return distance


def trimap(truth: NDArray[Any], distance: NDArray[np.float64], width: int) -> NDArray[Any]:
    """Truth of the pixels closer than ``width`` to a boundary, 255 elsewhere.

    Width 1 is the boundary pixels alone, one on each side of a boundary; width r takes about r on each side.

    Args:
        truth: Class indices (H,W), 255 = void.
        distance: Its ``boundary_distance``.
        width: In pixels, at least 1.
    """
    return np.where(distance < width, truth, np.array(255, truth.dtype))
