"""The record of an evaluation, as written to ``metrics.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError
from wss.metrics.confusion import frequency_weighted_iou, iou, mean_accuracy, miou, pixel_accuracy


def metrics_record(
    confusion: NDArray[Any],
    classes: Sequence[str],
    *,
    split: str,
    num_images: int,
    crf: bool,
    scales: Sequence[float],
    flip: bool,
    backbone: str,
    initialisation: str,
    method: str,
    store_key: str,
    walk: Mapping[str, float] | None = None,
    trimap: Mapping[int, NDArray[Any]] | None = None,
    dice_per_class: Mapping[str, float] | None = None,
    hd95_per_class: Mapping[str, float] | None = None,
    left_out: str | None = None,
    crf_choice: Mapping[str, Any] | None = None,
    largest_region: Mapping[str, Any] | None = None,
    bfloat16: Mapping[str, bool | None] | None = None,
) -> dict[str, Any]:
    """Scores of a split and the settings that produced them, as plain values for strict JSON.

    Optional entries are only in the record if their argument is given.

    Args:
        confusion: (K, K), truth in rows, summed over the split.
        classes: K names, all different.
        split: Name of the scored split.
        num_images: Number of scored images.
        crf: True if a CRF refined the predictions.
        scales: Test-time scales.
        flip: True if test-time predictions were averaged with those of the mirrored image.
        backbone: Network and backbone.
        initialisation: Origin of the network's weights before training.
        method: Name of the training method.
        store_key: Key of the scored predictions.
        walk: Settings of the random walk on features at test time; None without a walk.
        trimap: (K, K) matrices of the pixels near true boundaries only, by the width of the band in pixels.
        dice_per_class: Mean Dice over volumes by class name, a fraction.
        hd95_per_class: Mean 95 % Hausdorff distance over volumes by class name, in millimetres (in voxels without
            spacing).
        bfloat16: For ``training`` and ``prediction``, True if they were in bfloat16, None if unknown. The record has
            this entry only if one of them is True.
        crf_choice: CRF settings that the stage ``crf`` chose, and the data of the choice; None if it did not choose.
        largest_region: Decision of the stage ``largest-region`` to reduce the predictions to their largest region, and
            its reason; None if the stage did not run.
        left_out: Images or pixels that were not scored, and the reason; None if everything was scored.

    Returns:
        Plain Python values. Scores are fractions in 0..1. Undefined scores, such as the IoU of a class that never
        occurs, are None.

    Raises:
        UsageError: The number of names does not match the matrix, or names repeat.
    """
    if len(classes) != len(confusion) or len(set(classes)) != len(classes):
        raise UsageError(f"expected {len(confusion)} different class names, got {list(classes)}")
    record: dict[str, Any] = {
        "split": split,
        "num_images": int(num_images),
        "num_classes": len(classes),
        "classes": list(classes),
        "miou": _number(miou(confusion)),
        "iou_per_class": _numbers(dict(zip(classes, iou(confusion), strict=True))),
        "pixel_accuracy": _number(pixel_accuracy(confusion)),
        "mean_accuracy": _number(mean_accuracy(confusion)),
        "frequency_weighted_iou": _number(frequency_weighted_iou(confusion)),
        "crf": bool(crf),
        "scales": [float(scale) for scale in scales],
        "flip": bool(flip),
        "backbone": backbone,
        "initialisation": initialisation,
        "method": method,
        "store_key": store_key,
    }
    if left_out is not None:
        record["left_out"] = left_out
    if bfloat16 is not None and any(bfloat16.values()):
        record["bfloat16"] = dict(bfloat16)
    if crf_choice is not None:
        record["crf_choice"] = dict(crf_choice)
    if largest_region is not None:
        record["largest_region"] = dict(largest_region)
    if walk is not None:
        record["walk"] = dict(walk)
    if trimap is not None:
        record["trimap_miou"] = _numbers({str(width): miou(matrix) for width, matrix in trimap.items()})
        record["trimap_accuracy"] = _numbers({str(width): pixel_accuracy(matrix) for width, matrix in trimap.items()})
    if dice_per_class is not None:
        record["dice_per_class"] = _numbers(dice_per_class)
    if hd95_per_class is not None:
        record["hd95_per_class"] = _numbers(hd95_per_class)
    return record


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}


def _number(value: float | np.floating[Any]) -> float | None:
    return float(value) if math.isfinite(value) else None
