"""Probabilities in stores of predictions: what is kept of them, and how they are read.

A network is sure of most pixels: nearly all of its values are close to 0. Those below ``LEAST`` are kept as 0, which compresses
to nothing. The others are kept as float16. Labels are those of the full probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError
from wss.store import Store

LEAST = 3e-5
"""Smaller probabilities are kept as 0."""


def kept(probs: NDArray[np.floating]) -> NDArray[np.float16]:
    """Probabilities (K,H,W) as stores keep them: float16, and 0 where they are below ``LEAST``."""
    return np.where(probs < LEAST, 0, probs).astype(np.float16)


def probabilities(predictions: Store, image_id: str) -> NDArray[np.float32]:
    """Class probabilities of one image, float32 (K,H,W); each is 0 or at least ``LEAST``, and they sum to nearly 1.

    Raises:
        StoreError: The image is not there, or was stored without probabilities.
    """
    return predictions.get("probs", image_id).astype(np.float32)


def require_probabilities(predictions: Store, ids: Iterable[str], stage: str) -> None:
    """Raise unless these images were stored with probabilities.

    Args:
        predictions: The store.
        ids: Image ids.
        stage: The stage that reads them, for the error.

    Raises:
        UsageError: An image has none.
    """
    if not all(predictions.has("probs", i) for i in ids):
        raise UsageError(f"{stage} needs probabilities, and these predictions have none; predict with `probs: true`")
