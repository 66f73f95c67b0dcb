"""Interface of superpixel algorithms: settings, and one function from an image to a map of ids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wss.errors import DataError, UsageError
from wss.params import Params

Superpixels = NDArray[np.int32]
"""int32 (H,W), ids from 0 without gaps, in row-major order of first occurrence."""
EdgeMap = NDArray[np.float32]
"""float32 (H,W) in [0,1]."""


class SuperpixelMethod(Params, ABC):
    """Settings and behaviour of one superpixel algorithm."""

    name: str
    summary: ClassVar[str]
    """One line for help texts."""
    needs_edges: ClassVar[bool] = False
    """True if the algorithm reads an edge map instead of the image."""

    def segment(self, image: NDArray[np.uint8], edges: NDArray[Any] | None = None) -> Superpixels:
        """Partition an image into superpixels.

        Args:
            image: uint8 (H,W,3), RGB, at least one pixel.
            edges: Floating point (H,W), an edge map in 0..1, for algorithms that need one.

        Returns:
            int32 (H,W), ids from 0 without gaps, in row-major order of first occurrence. Deterministic.

        Raises:
            DataError: The image or the edge map has a wrong shape, dtype or range.
            UsageError: The algorithm needs edges, but none are given.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise DataError(f"superpixels: expected an image as uint8 (H, W, 3), got {image.dtype} {image.shape}")
        if self.needs_edges and edges is None:
            raise UsageError(f"superpixels {self.name!r} need an edge map, but none is given")
        checked = None if edges is None else _checked(edges, image.shape[:2])
        return in_reading_order(self._segment(np.ascontiguousarray(image), checked))

    @abstractmethod
    def _segment(self, image: NDArray[np.uint8], edges: EdgeMap | None) -> NDArray[Any]:
        """Compute any distinct integers per superpixel, (H,W). ``edges`` are given if the algorithm needs them."""


def in_reading_order(regions: NDArray[Any]) -> Superpixels:
    """Renumber integers (H,W) to ids from 0 without gaps, in row-major order of first occurrence."""
    _, first, inverse = np.unique(regions, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse.reshape(regions.shape)]


def _checked(edges: NDArray[Any], size: tuple[int, ...]) -> EdgeMap:
    if edges.shape != size or edges.dtype.kind != "f" or not (edges.min() >= 0 and edges.max() <= 1):
        raise DataError(
            f"superpixels: expected an edge map as floating point {size} in 0..1, got {edges.dtype} {edges.shape}"
        )
    return np.ascontiguousarray(edges, np.float32)
