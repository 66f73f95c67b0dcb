"""How sure a label is, in one byte, with most of its values among the labels that are nearly certain."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

CERTAIN = 255
"""The level of labels without any doubt."""
PER_HALVING = 8


def certainty_levels(doubt: ArrayLike) -> NDArray[np.uint8]:
    """Levels of certainty: 8 for every time that the doubt is halved, from 0, a doubt of 1, to 254, one of 2e-10 or less.

    Labels that walks or networks spread are mostly right with a probability close to 1, and those are what tells the least
    certain 6 % from the rest. Even steps of confidence would put them all on one level.

    Args:
        doubt: 1 - confidence, in 0..1, 0 where a label is given.

    Returns:
        uint8 of that shape; ``CERTAIN`` for 0. A label of a doubt of d at most is one of level ``floor(-8 log2 d)`` at least.
    """
    known = np.asarray(doubt, np.float64).clip(0, 1)
    positive = np.where(known > 0, known, 1)
    levels = np.floor(-PER_HALVING * np.log2(positive)).clip(0, CERTAIN - 1)
    return np.where(known > 0, levels, CERTAIN).astype(np.uint8)


def confidence_of(levels: ArrayLike) -> NDArray[np.float64]:
    """The least confidence, in 0..1, of labels of these levels."""
    known = np.asarray(levels)
    return np.where(known == CERTAIN, 1.0, -np.expm1(-np.log(2) / PER_HALVING * known))
