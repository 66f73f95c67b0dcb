"""Colour maps for positive and negative numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError

NEGATIVE_COLOUR = (255, 0, 0)
POSITIVE_COLOUR = (255, 255, 0)


def signed_map(values: NDArray[Any], *, percentile: float = 99.0) -> NDArray[np.uint8]:
    """Paint negative numbers red and positive numbers yellow, brighter for larger magnitudes; 0 is black.

    Args:
        values: Finite numbers (H, W).
        percentile: Percentile of the magnitudes, in 0..100. Values with at least this magnitude get the full colour. If the
            percentile is 0, the largest magnitude gets the full colour.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        UsageError: The values are not (H, W), or not finite.

    Source: Tang et al. 2018, "On Regularized Losses for Weakly-supervised CNN Segmentation", Fig. 1, for the colours.
    """
    if values.ndim != 2 or not np.isfinite(values).all():
        raise UsageError(f"expected finite numbers (H, W), got {values.dtype} {values.shape}")
    size = np.abs(values.astype(np.float64))
    full = float(np.percentile(size, percentile)) or float(size.max()) or 1.0
    strength = np.minimum(size / full, 1)[..., None]
    colours = np.where((values < 0)[..., None], NEGATIVE_COLOUR, POSITIVE_COLOUR)
    painted: NDArray[np.uint8] = np.rint(strength * colours).astype(np.uint8)
    return painted
