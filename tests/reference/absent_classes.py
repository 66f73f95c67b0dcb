"""The absent-class penalty, written from the equation pixel by pixel in float64."""

from __future__ import annotations

import math

import numpy as np


def absent_classes(probs: np.ndarray, present: np.ndarray, valid: np.ndarray) -> float:
    """The loss of probabilities (B,K,H,W), given the classes present (B,K) and the pixels that count (B,H,W)."""
    batch, classes, height, width = probs.shape
    total, pixels = 0.0, 0
    for b, y, x in np.ndindex(batch, height, width):
        if not valid[b, y, x] or not any(present[b]):
            continue
        pixels += 1
        for c in range(classes):
            if not present[b, c]:
                total -= math.log(1 - probs[b, c, y, x])
    return total / pixels if pixels else 0.0
