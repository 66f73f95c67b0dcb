"""Which class the scribbles in each superpixel have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def majority(
    superpixels: NDArray[Any], scribble: NDArray[np.uint8], present: NDArray[np.uint8], count: int
) -> NDArray[np.int64]:
    """The class that most scribbled pixels of each superpixel have.

    Args:
        superpixels: integers (H,W), ids in 0..count-1.
        scribble: uint8 (H,W), 255 = unlabelled.
        present: the classes that are scribbled, ascending.
        count: number of superpixels.

    Returns:
        int64 (count,), positions in ``present``, of equally frequent classes the first; -1 where nothing is scribbled.
    """
    labelled = scribble != 255
    rank = np.searchsorted(present, scribble[labelled])
    codes = superpixels[labelled].astype(np.int64) * len(present) + rank
    votes = np.bincount(codes, minlength=count * len(present)).reshape(count, len(present))
    return np.where(votes.any(1), votes.argmax(1), -1)
