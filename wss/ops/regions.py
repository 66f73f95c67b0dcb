"""Superpixels as a graph: pairs of neighbours, and means over superpixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def region_graph(superpixels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of superpixels that share a border, and the length of the border.

    Args:
        superpixels: Integers (H, W), ids from 0.

    Returns:
        Pairs int64 (E, 2), each once, lower id first, in lexical order. Lengths int64 (E,): the number of pairs of
        neighbouring pixels (left and right, above and below) across the border.
    """
    ids = superpixels.astype(np.int64)
    sides = [(ids[:, :-1], ids[:, 1:]), (ids[:-1], ids[1:])]
    pairs = np.concatenate([np.stack([a.ravel(), b.ravel()], 1) for a, b in sides])
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], 1)
    size = int(ids.max(initial=-1)) + 1
    codes, lengths = np.unique(pairs[:, 0] * size + pairs[:, 1], return_counts=True)
    return np.stack(np.divmod(codes, max(size, 1)), 1), lengths.astype(np.int64)


def region_means(superpixels: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    """Means of maps over superpixels.

    Args:
        superpixels: Integers (H, W), ids from 0.
        values: Maps (C, H, W).

    Returns:
        float64 (N, C), with N the largest id plus 1. Ids without pixels have the mean 0.
    """
    flat = superpixels.ravel()
    size = np.bincount(flat)
    sums = np.stack([np.bincount(flat, value.ravel(), len(size)) for value in values], 1)
    return sums / np.maximum(size, 1)[:, None]
