"""A quick look at what an algorithm will answer: the same on a smaller copy of the image."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError
from wss.propagation.propagation import UNLABELLED, Propagation, Proposal


def reduction(shape: tuple[int, int], pixels: int) -> int:
    """The smallest whole number by which both sides can be divided so that at most so many pixels are left."""
    return max(1, math.ceil(math.sqrt(shape[0] * shape[1] / pixels)))


def propagate_reduced(
    method: Propagation, image: NDArray[np.uint8], scribble: NDArray[np.uint8], num_classes: int, scale: int
) -> Proposal:
    """Spread the scribbles of one image over a copy whose sides are divided by ``scale``.

    Args:
        method: An algorithm that needs nothing beside image and scribbles.
        image: uint8 (H,W,3), RGB.
        scribble: uint8 (H,W), class indices and 255 = unlabelled. A pixel of the copy has the label that most labelled pixels of
            its square have.
        num_classes: K.
        scale: At least 1.

    Returns:
        Labels of all pixels, each from its square. Doubt is left out; ``margin`` and ``scale`` are those of the copy.

    Raises:
        UsageError: The algorithm needs more.
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
    found = method.propagate(small, labels, num_classes)
    size = (columns * scale, rows * scale)
    large = np.asarray(cv2.resize(found.labels, size, interpolation=cv2.INTER_NEAREST))[:height, :width]
    return Proposal(np.where(scribble == UNLABELLED, large, scribble), None, found.margin, scale)
