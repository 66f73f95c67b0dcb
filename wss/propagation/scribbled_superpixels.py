"""Scribbled class of each superpixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.labels import UNLABELLED


def majority(
    superpixels: NDArray[Any], scribble: NDArray[np.uint8], present: NDArray[np.uint8], count: int
) -> NDArray[np.int64]:
    """The most frequent class among the scribbled pixels of each superpixel.

    Args:
        superpixels: Integers (H,W), ids in 0..count-1.
        scribble: uint8 (H,W), 255 = unlabelled.
        present: The scribbled classes, ascending.
        count: Number of superpixels.

    Returns:
        int64 (count,), positions in ``present``; the first one if several classes are most frequent, -1 without
        scribbles.
    """
    labelled = scribble != UNLABELLED
    rank = np.searchsorted(present, scribble[labelled])
    codes = superpixels[labelled].astype(np.int64) * len(present) + rank
    votes = np.bincount(codes, minlength=count * len(present)).reshape(count, len(present))
    return np.where(votes.any(1), votes.argmax(1), -1)
