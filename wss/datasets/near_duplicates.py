"""Search for nearly identical pictures: the same view, but saved again, scaled, brightened or with noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE = 32
_ALIKE = 0.98
"""Correlation of two reduced pictures. Pairs of different photographs stay below 0.9, copies above 0.99."""
_DIFFERENT = 0.5
"""Limit of difference divided by contrast for 99 % of the cells of two reduced pictures. Moved or new objects exceed it."""
_FLAT = 4.0
"""Minimum standard deviation in grey levels. Pictures below it show too little to be compared."""
_CANDIDATES = 4
_BLOCK = 1024


def reduced(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reduce a picture to 32x32 grey values, uint8, for ``near_duplicates``.

    Args:
        image: uint8 (H, W, 3).
    """
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def near_duplicates(first: Sequence[NDArray[np.uint8]], second: Sequence[NDArray[np.uint8]]) -> list[tuple[int, int]]:
    """Find pairs of nearly identical pictures from two lists.

    Pictures are first compared coarsely, in blocks. The most similar ones are then compared cell by cell, independent
    of brightness and contrast. Tens of thousands of pictures are possible.

    Args:
        first: Reduced pictures, see ``reduced``.
        second: Other reduced pictures.

    Returns:
        Positions in ``first`` and ``second``. Each picture of ``second`` is in at most one pair, with the most similar picture.
    """
    if not len(first) or not len(second):
        return []
    fine = [_contrast(np.stack(pictures).astype(np.float32)) for pictures in (first, second)]
    coarse = [_unit(_halved(values)) for values in fine]
    pairs = []
    for start in range(0, len(second), _BLOCK):
        alike = coarse[1][start : start + _BLOCK] @ coarse[0].T
        for row, columns in enumerate(_top(alike)):
            there = start + row
            for here in columns[alike[row, columns] >= _ALIKE]:
                if _same(fine[0][here], fine[1][there]):
                    pairs.append((int(here), there))
                    break
    return pairs


def _top(alike: NDArray[Any]) -> NDArray[Any]:
    """The columns of the largest values of each row, in descending order."""
    chosen = np.argpartition(-alike, min(_CANDIDATES, alike.shape[1] - 1), axis=1)[:, :_CANDIDATES]
    order = np.argsort(-np.take_along_axis(alike, chosen, axis=1), axis=1)
    return np.take_along_axis(chosen, order, axis=1)


def _contrast(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract the mean of each picture, float32 (N, cells). Flat pictures become 0."""
    values = pictures.reshape(len(pictures), -1)
    values = values - values.mean(axis=1, keepdims=True)
    values[values.std(axis=1) < _FLAT] = 0
    return np.asarray(values, np.float32)


def _halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pictures at half the side, float32 (N, cells)."""
    half = _SIDE // 2
    return np.asarray(values.reshape(len(values), half, 2, half, 2).mean(axis=(2, 4)).reshape(len(values), -1))


def _unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalise rows to length 1. Rows of flat pictures stay 0."""
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(np.divide(values, length, out=np.zeros_like(values), where=length > 0))


def _same(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    gain = float(one @ other) / float(one @ one)
    difference = np.abs(other - gain * one)
    return bool(np.quantile(difference, 0.99) <= _DIFFERENT * other.std())
