"""The confusion matrix of a set of images, and scores computed from it.

As PASCAL VOC defines them, scores come from one matrix summed over the whole set, not from means over images. Matrices
are added, so a set can be scored image by image in any order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.errors import DataError, UsageError
from wss.labels import UNLABELLED


def confusion_matrix(
    truth: NDArray[Any], prediction: NDArray[Any], num_classes: int, ignore_index: int = UNLABELLED
) -> NDArray[np.int64]:
    """Count pixels by true and predicted class.

    Pixels whose truth is ``ignore_index`` are left out. All other pixels need a predicted class: there is no row or
    column for missing predictions. To score labels with holes only on the pixels that they cover, put the holes into
    the truth: ``numpy.where(prediction == 255, 255, truth)``.

    Args:
        truth: Integer array of any shape, usually (H, W) or (B, H, W); classes 0..K-1 and ``ignore_index``.
        prediction: Integer array of the same shape; classes 0..K-1.
        num_classes: K.
        ignore_index: The truth of pixels that do not count.

    Returns:
        int64 (K, K), truth in rows, prediction in columns.

    Raises:
        DataError: Shapes differ, or a value is neither a class nor ignored.
        UsageError: An array does not hold integers, or ``num_classes`` is below 1.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if num_classes < 1:
        raise UsageError(f"expected at least one class, got num_classes={num_classes}")
    for name, array in (("truth", truth), ("prediction", prediction)):
        if array.dtype.kind not in "iu":
            raise UsageError(
                f"expected {name} as integer class indices, got {array.dtype}; take argmax of probabilities"
            )
    if truth.shape != prediction.shape:
        raise DataError(
            f"truth has shape {truth.shape}, prediction {prediction.shape}; predict at the resolution of the mask"
        )
    valid = truth != ignore_index
    rows, columns = truth[valid], prediction[valid]
    _check_range(rows, "truth", num_classes, f"map other values to {ignore_index} or fix the class list")
    hint = "an unlabelled pixel is no prediction: set its truth to the ignored value if it should not count"
    _check_range(columns, "prediction", num_classes, hint)
    pairs = rows.astype(np.int64) * num_classes + columns.astype(np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64, copy=False)


def _check_range(values: NDArray[Any], name: str, num_classes: int, remedy: str) -> None:
    if values.size and (values.min() < 0 or values.max() >= num_classes):
        wrong = values[(values < 0) | (values >= num_classes)]
        raise DataError(
            f"{name} has {wrong.size} pixels outside the classes 0..{num_classes - 1}, for example {wrong[0]}; {remedy}"
        )


def iou(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union per class: TP / (TP + FP + FN).

    Args:
        confusion: (K, K), truth in rows.

    Returns:
        float64 (K,) in [0, 1]; NaN for classes in neither truth nor prediction.

    Source: Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010, section 4.3 (segmentation accuracy).
    """
    hits, true, predicted = _counts(confusion)
    return _ratio(hits, true + predicted - hits)


def miou(confusion: NDArray[Any]) -> float:
    """Mean of ``iou`` over the classes in truth or prediction, a fraction; NaN if no pixel is counted.

    A class that is predicted but not in the truth counts with IoU 0.
    """
    return _mean(iou(confusion))


def dice(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Dice coefficient (F1) per class: 2 TP / (2 TP + FP + FN), over all pixels of the set.

    Args:
        confusion: (K, K), truth in rows.

    Returns:
        float64 (K,) in [0, 1]; NaN for classes in neither truth nor prediction.
    """
    hits, true, predicted = _counts(confusion)
    return _ratio(2 * hits, true + predicted)


def pixel_accuracy(confusion: NDArray[Any]) -> float:
    """Share of the counted pixels with the right class; NaN if no pixel is counted."""
    hits, true, _ = _counts(confusion)
    return float(_ratio(hits.sum(), true.sum()))


def mean_accuracy(confusion: NDArray[Any]) -> float:
    """Mean recall over the classes in the truth; NaN if there is none."""
    hits, true, _ = _counts(confusion)
    return _mean(_ratio(hits, true))


def frequency_weighted_iou(confusion: NDArray[Any]) -> float:
    """Mean of ``iou``, weighted by each class's share of the true pixels; NaN if no pixel is counted."""
    _, true, _ = _counts(confusion)
    return float(_ratio((true * np.nan_to_num(iou(confusion))).sum(), true.sum()))


def _counts(confusion: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Hits, true pixels and predicted pixels per class."""
    confusion = np.asarray(confusion)
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise UsageError(f"expected a confusion matrix (K, K), got shape {confusion.shape}")
    counts = confusion.astype(np.float64)
    return np.diag(counts), counts.sum(1), counts.sum(0)


def _ratio(part: Any, whole: Any) -> NDArray[np.float64]:
    """``part / whole``, NaN where ``whole`` is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    ratio: NDArray[np.float64] = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return ratio


def _mean(values: NDArray[np.float64]) -> float:
    """Mean of the values that are not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
