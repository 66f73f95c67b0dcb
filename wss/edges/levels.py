"""Edge strengths as 8-bit levels, as stores keep them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def edge_levels(edges: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Round edge strengths in 0..1 to levels, uint8 in 0..255, of the same shape."""
    levels: NDArray[np.uint8] = np.rint(255 * edges).astype(np.uint8)
    return levels


def edge_strengths(levels: NDArray[Any]) -> NDArray[np.float32]:
    """Edge strengths, float32 in 0..1, of levels from ``edge_levels``."""
    strengths: NDArray[np.float32] = levels.astype(np.float32) / np.float32(255)
    return strengths
