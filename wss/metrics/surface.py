"""Overlap and surface distance of one class in one volume, in millimetres."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wss.errors import DataError, UsageError
from wss.labels import UNLABELLED

Mask = NDArray[np.bool_]


def dice_volume(truth: NDArray[Any], prediction: NDArray[Any], label: int) -> float:
    """Dice coefficient of one class in one volume: 2 |A and B| / (|A| + |B|).

    Args:
        truth: Class indices, (D, H, W) or (H, W); voxels of value 255 do not count.
        prediction: Class indices, same shape.
        label: The class to compare.

    Returns:
        A fraction. NaN if the class is in neither array, 0 if it is in only one.

    Raises:
        DataError: Shapes differ.
    """
    true, predicted = _masks(truth, prediction, label)
    total = int(true.sum()) + int(predicted.sum())
    return 2 * int((true & predicted).sum()) / total if total else float("nan")


def hd95(truth: NDArray[Any], prediction: NDArray[Any], label: int, spacing_mm: tuple[float, ...]) -> float:
    """95 % Hausdorff distance of one class in one volume, symmetric.

    The surface of a region consists of its voxels that share a face with a voxel outside the region or with the border
    of the volume. For each surface voxel of both regions, the distance is the Euclidean distance between centres to the
    nearest surface voxel of the other region. The result is the 95th percentile (linear interpolation) of the pooled
    distances of both directions.

    Args:
        truth: Class indices, (D, H, W) or (H, W); voxels of value 255 belong to no region.
        prediction: Class indices, same shape.
        label: The class to compare.
        spacing_mm: Distance between voxel centres along each axis in millimetres, slices first.

    Returns:
        Distance in millimetres. NaN if the class is in neither array. If it is in only one, the diagonal of the volume.
        The diagonal is larger than any distance in the volume, so a missing organ is never better than a misplaced one;
        and it is finite, so means over volumes exist.

    Raises:
        DataError: Shapes differ.
        UsageError: There is not one positive spacing per axis.

    Differs: DeepMind's ``surface-distance`` takes the larger of the two directed percentiles, weighted by surface area.
        Most published ACDC numbers use the pooled percentile.
    """
    true, predicted = _masks(truth, prediction, label)
    if len(spacing_mm) != true.ndim or not all(0 < s < float("inf") for s in spacing_mm):
        raise UsageError(
            f"expected {true.ndim} spacings > 0 in mm for a volume of shape {true.shape}, got {tuple(spacing_mm)}"
        )
    if not true.any() and not predicted.any():
        return float("nan")
    if not true.any() or not predicted.any():
        return float(np.linalg.norm(np.multiply(true.shape, spacing_mm)))
    # Both surfaces lie in the bounding box of both regions, so distances computed in the box are exact.
    box = ndimage.find_objects((true | predicted).view(np.uint8))[0]
    a, b = _surface(true[box]), _surface(predicted[box])
    distances = np.concatenate([_distance_to(b, spacing_mm)[a], _distance_to(a, spacing_mm)[b]])
    return float(np.percentile(distances, 95))


def _masks(truth: NDArray[Any], prediction: NDArray[Any], label: int) -> tuple[Mask, Mask]:
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape:
        raise DataError(
            f"truth has shape {truth.shape}, prediction {prediction.shape}; both must cover the same slices"
        )
    return truth == label, (prediction == label) & (truth != UNLABELLED)


def _surface(region: Mask) -> Mask:
    surface: Mask = region & ~ndimage.binary_erosion(region)
    return surface


def _distance_to(surface: Mask, spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(~surface, sampling=spacing_mm)
    return distance
