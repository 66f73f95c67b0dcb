"""Quality of computed labels: their agreement with masks, with and without the least certain labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.labels import UNLABELLED
from wss.metrics.certainty import CERTAIN, certainty_levels, confidence_of
from wss.metrics.confusion import confusion_matrix, iou, miou


def confusion_by_certainty(
    truth: NDArray[Any], labels: NDArray[Any], certainty: NDArray[np.uint8] | None, num_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the pixels of an image by certainty, true class and label.

    Args:
        truth: (H,W), 255 = void.
        labels: (H,W), 255 = no label.
        certainty: Levels (H,W), see ``certainty_levels``. None means certain everywhere.
        num_classes: K.

    Returns:
        The levels that occur, ascending, int64 (L,), and the confusion matrix of each level, int64 (L,K,K), truth in
        rows.
    """
    known = (labels != UNLABELLED) & (truth != UNLABELLED)
    levels = np.full(labels.shape, CERTAIN) if certainty is None else certainty.astype(np.int64)
    occurring = np.unique(levels[known])
    matrices = [
        confusion_matrix(truth[known & (levels == level)], labels[known & (levels == level)], num_classes)
        for level in occurring
    ]
    return occurring, np.stack(matrices) if matrices else np.zeros((0, num_classes, num_classes), np.int64)


def abstaining(
    counts: NDArray[np.int64], unlabelled: int, *, share: float | None = None, confidence: float | None = None
) -> dict[str, Any]:
    """Scores of the labels that remain after the least certain labels are dropped.

    Many labels can have the same level of certainty, even more than ``share`` allows if an algorithm is certain of
    nearly everything. Then only a part of the last level is dropped: the same fraction of each entry of its confusion
    matrix. This is the mean over all possible choices. The share is met exactly, equal labels are treated alike, and
    nothing is random.

    Args:
        counts: int64 (256,K,K): confusion by level of certainty, summed over images.
        unlabelled: Number of pixels with known truth that have no label.
        share: Share of all pixels with known truth that is dropped, lowest levels first. Pixels without label count as
            dropped; if they exceed the share, no others are dropped.
        confidence: Drop labels with less than this confidence, in 0..1, rounded to a level.

    Returns:
        ``abstained``: the share of dropped pixels. ``threshold``: the smallest confidence of kept labels. ``miou`` and
        ``iou_per_class`` (K,): scores of the remaining labels, NaN where undefined.
    """
    pixels = counts.sum((1, 2))
    total = max(int(pixels.sum()) + unlabelled, 1)
    below = np.concatenate([[0], np.cumsum(pixels)])  # for each level, the number of less certain labels
    if share is None:
        first = int(certainty_levels(1 - (confidence or 0.0)))
        dropped = float(below[first])
    else:
        dropped = float(np.clip(share * total - unlabelled, 0, below[-1]))
        first = min(int(np.searchsorted(below[1:], dropped, side="right")), len(pixels) - 1)
    kept = 1 - (dropped - below[first]) / max(int(pixels[first]), 1)
    left = counts[first] * kept + counts[first + 1 :].sum(0)
    return {
        "abstained": (unlabelled + dropped) / total,
        "threshold": float(confidence_of(first)),
        "miou": miou(left) if left.any() else float("nan"),
        "iou_per_class": iou(left),
    }


def label_record(
    counts: NDArray[np.int64], unlabelled: int, classes: Sequence[str], *, name: str, split: str, num_images: int
) -> dict[str, Any]:
    """Scores of labels, as plain values for strict JSON.

    They are given for all labels, without the least certain 6 %, and for labels with a confidence of at least 0.5.

    Args:
        counts: int64 (256,K,K): confusion by level of certainty, summed over images.
        unlabelled: Number of pixels with known truth but without label.
        classes: K names.
        name: Name of the method that computed the labels.
        split: Name of the scored split.
        num_images: Number of scored images.

    Source: Vernaza, Chandraker 2017, Table 2 (0 % and 6 % abstention, w < 0.5). See ``abstaining`` for labels of equal certainty.
    """
    known = int(counts.sum()) + unlabelled
    choices: dict[str, dict[str, float]] = {
        "all": {"share": 0.0},
        "without 6 %": {"share": 0.06},
        "confidence >= 0.5": {"confidence": 0.5},
    }
    scores = {title: abstaining(counts, unlabelled, **choice) for title, choice in choices.items()}
    return {
        "name": name,
        "split": split,
        "num_images": num_images,
        "coverage": int(counts.sum()) / max(known, 1),
        "miou": _plain(scores["all"]["miou"]),
        "iou_per_class": {c: _plain(v) for c, v in zip(classes, scores["all"]["iou_per_class"], strict=True)},
        "abstaining": {
            title: {key: _plain(score[key]) for key in ("abstained", "threshold", "miou")}
            for title, score in scores.items()
        },
    }


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
