"""Trimaps: bands along true boundaries, to score the accuracy of outlines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wss.errors import UsageError
from wss.labels import UNLABELLED


def boundary_distance(truth: NDArray[Any]) -> NDArray[np.float64]:
    """Distance of every pixel to the nearest true boundary, in pixels.

    A boundary pixel has a 4-neighbour with another true value. Void (255) counts as a value. If annotators left a void
    strip between two regions, the pixels along both borders of the strip are boundary pixels.

    Args:
        truth: Class indices (H,W), 255 = void.

    Returns:
        float64 (H,W), distances between pixel centres: 0 on boundary pixels, infinite if the image has only one value.

    Raises:
        UsageError: The truth is not (H,W).

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
    """Truth on the pixels closer than ``width`` to a boundary, 255 on all others.

    Width 1 keeps only the boundary pixels, one on each side of a boundary. Width r keeps about r pixels on each side.

    Args:
        truth: Class indices (H,W), 255 = void.
        distance: The ``boundary_distance`` of the truth.
        width: Width in pixels, at least 1.
    """
    return np.where(distance < width, truth, np.array(UNLABELLED, truth.dtype))
