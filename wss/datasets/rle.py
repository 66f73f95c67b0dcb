"""Run-length encoded masks in COCO's format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.datasets.images import MAX_PIXELS


class RleError(ValueError):
    """An invalid encoding. The message is the end of a sentence whose subject is the encoding."""


def decode_rle(encoded: Any) -> NDArray[np.bool_]:
    """Decode a run-length encoded mask.

    Runs go down the columns, from left to right. They are alternately outside and inside the mask; the first run is
    outside. They are a list of numbers, or a compressed string. In the string, each number from the fourth on is stored
    as the difference to the number two positions before it. Numbers are in base 32 with the lowest digit first. A
    character is 48 plus the digit, plus 32 if another digit follows; 16 in the last digit is the sign.

    Args:
        encoded: A mapping with ``size``, height and width, and ``counts``, a list, or a string or bytes if compressed.

    Returns:
        bool (H, W).

    Raises:
        RleError: The encoding has another form, or the runs do not add up to the size.
    """
    if not isinstance(encoded, Mapping) or not {"size", "counts"} <= set(encoded):
        raise RleError("is no run-length encoding, expected size and counts")
    size, counts = encoded["size"], encoded["counts"]
    whole = isinstance(size, list | tuple) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    if not whole:
        raise RleError(f"has size {size!r}, expected [height, width]")
    height, width = size
    if height * width > MAX_PIXELS:
        raise RleError(f"has size {size!r}, more than the limit of {MAX_PIXELS} pixels")
    if isinstance(counts, list):
        if not all(type(count) is int and abs(count) <= MAX_PIXELS for count in counts):
            raise RleError("has counts that are not whole numbers of pixels")
        runs = np.array(counts, np.int64)
    elif isinstance(counts, str | bytes):
        runs = _uncompressed(counts.encode("ascii", "replace") if isinstance(counts, str) else counts)
    else:
        raise RleError(f"has counts of type {type(counts).__name__}, expected a list or a string")
    if (runs < 0).any():
        raise RleError("has a run of negative length")
    if runs.sum() != height * width:
        raise RleError(f"covers {runs.sum()} pixels, {height}x{width} are {height * width}")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def _uncompressed(text: bytes) -> NDArray[np.int64]:
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if ((codes < 0) | (codes > 63)).any():
        raise RleError("has compressed counts with a character that does not belong there")
    if not len(codes):
        return codes
    last = codes < 32
    if not last[-1]:
        raise RleError("has compressed counts that end in the middle of a number")
    ends = np.flatnonzero(last)
    starts = np.append(0, ends[:-1] + 1)
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if place.max() > 7:
        raise RleError("has compressed counts with a number of more than 8 digits")
    values: NDArray[np.int64] = np.add.reduceat((codes & 31) << (5 * place), starts)
    values -= ((codes[ends] & 16) > 0) * (np.int64(1) << (5 * (place[ends] + 1)))
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
