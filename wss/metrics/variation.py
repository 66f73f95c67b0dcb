"""Relative change of a representation under a transform that should not change it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError


def relative_variations(expected: NDArray[Any], found: NDArray[Any]) -> NDArray[np.float64]:
    """``relative_variation`` of each position, with sums over the last axis only.

    Args:
        expected: T(f), numbers (...,C).
        found: f', of the same shape.

    Returns:
        Values (...) in 0..1.

    Raises:
        UsageError: The shapes differ.

    Source: Pan et al. 2021 (see ``relative_variation``), Fig. 5.
    """
    if expected.shape != found.shape:
        raise UsageError(f"expected two arrays of one shape, got {expected.shape} and {found.shape}")
    first, second = expected.astype(np.float64), found.astype(np.float64)
    total = np.abs(first).sum(-1) + np.abs(second).sum(-1)
    differences: NDArray[np.float64] = np.abs(first - second).sum(-1)
    shares: NDArray[np.float64] = np.divide(differences, total, out=np.zeros_like(total), where=total > 0)
    return shares


def relative_variation(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """Sum abs(expected - found) / (sum abs(expected) + sum abs(found)): 0 for equal arrays, at most 1.

    Args:
        expected: T(f), numbers of any shape.
        found: f', of the same shape. For two arrays of zeros the result is 0.

    Raises:
        UsageError: The shapes differ.

    Source: Pan et al. 2021, "Scribble-Supervised Semantic Segmentation by Random Walk on Neural Representation and
        Self-Supervision on Neural Eigenspace", Table 3.
    Differs: the paper does not say if it divides sums or averages quotients. Quotients of entries near 0 are noise, so
        we divide sums.
    """
    if expected.shape != found.shape:
        raise UsageError(f"expected two arrays of one shape, got {expected.shape} and {found.shape}")
    first, second = expected.astype(np.float64), found.astype(np.float64)
    total = np.abs(first).sum() + np.abs(second).sum()
    return float(np.abs(first - second).sum() / total) if total else 0.0
