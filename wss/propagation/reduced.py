"""Quick preview of a propagation: the same algorithm on a smaller copy of the image."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError
from wss.labels import UNLABELLED
from wss.propagation.propagation import Propagation, Proposal


def reduction(shape: tuple[int, int], pixels: int) -> int:
    """The smallest whole number that, dividing both sides, leaves at most ``pixels`` pixels."""
    return max(1, math.ceil(math.sqrt(shape[0] * shape[1] / pixels)))


def propagate_reduced(
    method: Propagation, image: NDArray[np.uint8], scribble: NDArray[np.uint8], num_classes: int, scale: int
) -> Proposal:
    """Propagate the scribbles of one image on a copy whose sides are divided by ``scale``.

    Args:
        method: An algorithm that needs no extras.
        image: uint8 (H,W,3), RGB.
        scribble: uint8 (H,W), class indices and 255 = unlabelled. A pixel of the copy gets the most frequent label
            among the labelled pixels of its square.
        num_classes: K.
        scale: Divisor of the sides, at least 1.

    Returns:
        Labels of all pixels, each from its square. ``doubt`` is None; ``margin`` and ``scale`` are those of the copy.

    Raises:
        UsageError: The algorithm needs extras.
    """
    if method.needs:
        raise UsageError(f"propagation {method.name!r} needs {', '.join(sorted(method.needs))}: it cannot be reduced")
    height, width = scribble.shape
    rows, columns = -(-height // scale), -(-width // scale)
    small = np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    y, x = np.nonzero(scribble != UNLABELLED)
    places = (y // scale) * columns + x // scale
    votes = np.bincount(places * num_classes + scribble[y, x], minlength=rows * columns * num_classes)
    votes = votes.reshape(-1, num_classes)
    labels = np.where(votes.any(1), votes.argmax(1), UNLABELLED).astype(np.uint8).reshape(rows, columns)
    proposal = method.propagate(small, labels, num_classes)
    size = (columns * scale, rows * scale)
    large = np.asarray(cv2.resize(proposal.labels, size, interpolation=cv2.INTER_NEAREST))[:height, :width]
    return Proposal(np.where(scribble == UNLABELLED, large, scribble), None, proposal.margin, scale)
