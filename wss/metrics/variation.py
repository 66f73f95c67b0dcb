"""How much a representation changes where it should not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError


def relative_variation(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """Sum abs(expected - found) / (sum abs(expected) + sum abs(found)): 0 for equals, 1 for strangers.

    Args:
        expected: T(f), numbers of any shape.
        found: f', of the same shape. Two arrays of zeros differ by 0.

    Raises:
        UsageError: The shapes differ.

    Source: Pan et al. 2021, "Scribble-Supervised Semantic Segmentation by Random Walk on Neural Representation and
        Self-Supervision on Neural Eigenspace", Table 3.
    Differs: the paper does not say whether it divides sums or averages quotients; those of entries near 0 are noise, so
        that we divide sums.
    """
    if expected.shape != found.shape:
        raise UsageError(f"expected two arrays of one shape, got {expected.shape} and {found.shape}")
    first, second = expected.astype(np.float64), found.astype(np.float64)
    total = np.abs(first).sum() + np.abs(second).sum()
    return float(np.abs(first - second).sum() / total) if total else 0.0
