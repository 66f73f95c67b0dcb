"""The type of edge detectors, and averages over scales and mirror images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""uint8 (H,W,3), RGB."""
EdgeMap = NDArray[np.float32]
"""float32 (H,W) in [0,1]."""
Detect = Callable[[Image], EdgeMap]
"""Function from an image to its edge map of the same size."""


def averaged(detect: Detect, image: Image, *, scales: Sequence[float] = (1.0,), flip: bool = False) -> EdgeMap:
    """Mean of the edge maps at several scales, each resized to the size of the image.

    Args:
        detect: The detector.
        image: uint8 (H,W,3).
        scales: Scales of the image, above 0, at least one.
        flip: Average with the edge map of the mirrored image at each scale.

    Returns:
        Float32 (H,W) in [0,1].
    """
    height, width = image.shape[:2]
    total = np.zeros((height, width), np.float32)
    for scale in scales:
        resized = image
        if scale != 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            resized = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
        edges = detect(resized)
        if flip:
            mirrored = detect(np.ascontiguousarray(resized[:, ::-1]))[:, ::-1]
            edges = np.asarray((edges + mirrored) / 2, np.float32)
        if edges.shape != total.shape:
            edges = np.asarray(cv2.resize(edges, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
        total += edges
    mean: EdgeMap = np.clip(total / len(scales), 0, 1).astype(np.float32)
    return mean
