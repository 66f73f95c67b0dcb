"""What a superpixel algorithm is to the rest: settings, and one function from an image to a map of ids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wss.errors import DataError
from wss.params import Params

Superpixels = NDArray[np.int32]
"""int32 (H,W), ids from 0 without gaps, in the order in which rows are read."""


class SuperpixelMethod(Params, ABC):
    """Settings and behaviour of one algorithm."""

    name: str
    summary: ClassVar[str]
    """One line for help texts."""

    def segment(self, image: NDArray[np.uint8]) -> Superpixels:
        """Cut an image into superpixels; each pixel belongs to one.

        Args:
            image: uint8 (H,W,3), RGB, at least one pixel.

        Returns:
            int32 (H,W), ids from 0 without gaps, numbered in reading order. Equal for equal images.

        Raises:
            DataError: Not such an image.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise DataError(f"superpixels: expected an image as uint8 (H, W, 3), got {image.dtype} {image.shape}")
        return in_reading_order(self._segment(np.ascontiguousarray(image)))

    @abstractmethod
    def _segment(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """Integers (H,W), one per superpixel."""


def in_reading_order(regions: NDArray[Any]) -> Superpixels:
    """Any integers (H,W) as ids from 0 without gaps, numbered in reading order."""
    _, first, inverse = np.unique(regions, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse.reshape(regions.shape)]
