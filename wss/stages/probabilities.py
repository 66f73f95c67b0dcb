"""Writing and reading of class probabilities in stores of predictions.

A network is sure of most pixels, so nearly all of its probabilities are close to 0. Probabilities below ``LEAST`` are stored as
0, which compresses to nothing. The others are stored as float16. Labels are computed from the full probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError
from wss.store import Store

LEAST = 3e-5
"""Smaller probabilities are stored as 0."""


def kept(probs: NDArray[np.floating]) -> NDArray[np.float16]:
    """Convert probabilities (K,H,W) to their stored form: float16, and 0 where they are below ``LEAST``."""
    return np.where(probs < LEAST, 0, probs).astype(np.float16)


def probabilities(predictions: Store, image_id: str) -> NDArray[np.float32]:
    """Class probabilities of one image, float32 (K,H,W); each is 0 or at least ``LEAST``, and they sum to nearly 1.

    Raises:
        StoreError: The store lacks the image, or has no probabilities for it.
    """
    return predictions.get("probs", image_id).astype(np.float32)


def require_probabilities(predictions: Store, ids: Iterable[str], stage: str) -> None:
    """Check that the store has probabilities for these images.

    Args:
        predictions: Store of predictions.
        ids: Image ids.
        stage: Name of the stage that reads them, for the error.

    Raises:
        UsageError: An image has no probabilities.
    """
    if not all(predictions.has("probs", i) for i in ids):
        raise UsageError(f"{stage} needs probabilities, and these predictions have none; predict with `probs: true`")
