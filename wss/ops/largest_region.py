"""The largest connected foreground region of an image or volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wss.labels import UNLABELLED


def regions_of(labels: NDArray[np.uint8], background: int) -> NDArray[np.int32]:
    """Connected foreground regions, numbered from 1; 0 is background.

    Args:
        labels: See ``outside_largest``.
        background: See ``outside_largest``.

    Returns:
        int32, of the same shape.
    """
    regions: NDArray[np.int32] = ndimage.label((labels != background) & (labels != UNLABELLED))[0]
    return regions


def outside_largest(labels: NDArray[np.uint8], background: int) -> NDArray[np.bool_]:
    """Foreground outside the largest connected foreground region.

    Pixels are connected through their sides, in volumes also to the slices above and below. All classes except the
    background are one foreground. If several regions are largest, the first in memory order is kept.

    Args:
        labels: Class indices, uint8 (H,W) or (D,H,W).
        background: Index of the background; 255 counts as background.

    Returns:
        bool, of the same shape.
    """
    regions = regions_of(labels, background)
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    outside: NDArray[np.bool_] = (regions > 0) & (regions != sizes.argmax())
    return outside
