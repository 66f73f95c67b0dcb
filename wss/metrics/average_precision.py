"""Average precision of image classification."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def average_precision(scores: NDArray[np.floating], present: NDArray[np.bool_]) -> float:
    """Average precision of one class.

    It is the mean, over the images with the class, of the precision among all images that score at least as high.

    Args:
        scores: Score of the class per image, (N,).
        present: bool (N,), True for images with the class.

    Returns:
        A value in 0..1; NaN if no image has the class. Images with equal scores count together, so their order does not
        matter.
    """
    wanted = np.asarray(present, bool)
    if not wanted.any():
        return float("nan")
    thresholds = np.asarray(scores)[wanted]
    above = np.asarray(scores)[None] >= thresholds[:, None]
    return float((above[:, wanted].sum(1) / above.sum(1)).mean())
