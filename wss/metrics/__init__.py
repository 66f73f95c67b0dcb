"""Scores of label maps against dense masks.

Examples:
    >>> import numpy as np, wss
    >>> truth = np.array([[0, 0, 1], [0, 1, 255]], np.uint8)  # 255 does not count
    >>> labels = np.array([[0, 1, 1], [0, 1, 0]], np.uint8)
    >>> counts = wss.metrics.confusion_matrix(truth, labels, 2)  # rows: truth
    >>> counts.tolist()
    [[2, 1], [0, 2]]
    >>> [round(float(value), 3) for value in wss.metrics.iou(counts)]
    [0.667, 0.667]
"""

from wss.metrics.average_precision import average_precision
from wss.metrics.certainty import CERTAIN, certainty_levels, confidence_of
from wss.metrics.confusion import (
    confusion_matrix,
    dice,
    frequency_weighted_iou,
    iou,
    mean_accuracy,
    miou,
    pixel_accuracy,
)
from wss.metrics.label_quality import abstaining, confusion_by_certainty, label_record
from wss.metrics.record import metrics_record
from wss.metrics.steps import StepShares, step_shares
from wss.metrics.surface import dice_volume, hd95
from wss.metrics.trimap import boundary_distance, trimap
from wss.metrics.variation import relative_variation, relative_variations

__all__ = [
    "CERTAIN",
    "StepShares",
    "abstaining",
    "average_precision",
    "boundary_distance",
    "certainty_levels",
    "confidence_of",
    "confusion_by_certainty",
    "confusion_matrix",
    "dice",
    "dice_volume",
    "frequency_weighted_iou",
    "hd95",
    "iou",
    "label_record",
    "mean_accuracy",
    "metrics_record",
    "miou",
    "pixel_accuracy",
    "relative_variation",
    "relative_variations",
    "step_shares",
    "trimap",
]
