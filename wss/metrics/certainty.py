"""Certainty of a label in one byte, with a logarithmic scale that resolves nearly certain labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

CERTAIN = 255
"""Level of labels without any doubt."""
PER_HALVING = 8


def certainty_levels(doubt: ArrayLike) -> NDArray[np.uint8]:
    """Levels of certainty: each halving of the doubt adds 8 levels, from 0 (doubt 1) to 254 (doubt 2e-10 or less).

    Most labels propagated by walks or networks have a probability close to 1. To separate the least certain 6 % from
    the rest, differences among these labels matter. Equal steps of confidence would put them all on one level.

    Args:
        doubt: 1 - confidence, in 0..1; 0 for given labels.

    Returns:
        Levels, uint8 of the same shape; ``CERTAIN`` for a doubt of 0. A label with a doubt of at most d has at least
        the level ``floor(-8 log2 d)``.
    """
    known = np.asarray(doubt, np.float64).clip(0, 1)
    positive = np.where(known > 0, known, 1)
    levels = np.floor(-PER_HALVING * np.log2(positive)).clip(0, CERTAIN - 1)
    return np.where(known > 0, levels, CERTAIN).astype(np.uint8)


def confidence_of(levels: ArrayLike) -> NDArray[np.float64]:
    """Smallest confidence, in 0..1, of labels with these levels."""
    known = np.asarray(levels)
    return np.where(known == CERTAIN, 1.0, -np.expm1(-np.log(2) / PER_HALVING * known))
