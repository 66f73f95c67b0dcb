"""Run-length encoded values in a bit stream: Label Studio's format for brush pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.datasets.images import MAX_PIXELS
from wss.datasets.rle import RleError


def decode_packed(encoded: Any) -> NDArray[np.int64]:
    """Decode a stream of values.

    The stream begins with the number of values (32 bits), the bit width of a value minus 1 (5 bits), and four bit
    widths of lengths minus 1 (4 bits each). Groups follow. Each group has one bit (1 for a run, 0 for single values),
    the index of the bit width of its length (2 bits), and the length minus 1. A run has one value; otherwise the number
    of values is the length. The highest bits come first.

    Args:
        encoded: A list of bytes, 0 to 255.

    Returns:
        int64 (N,), not negative.

    Raises:
        RleError: The stream has another form, or ends before the last value.

    Source: the format of thi.ng's package rle-pack, which Label Studio uses.
    """
    if not isinstance(encoded, list) or not all(type(byte) is int and 0 <= byte <= 255 for byte in encoded):
        raise RleError("is no list of bytes")
    stream = _Bits(np.unpackbits(np.array(encoded, np.uint8)))
    count = stream.number(32)
    if count > 4 * MAX_PIXELS:
        raise RleError(f"declares {count} values, more than the limit of {4 * MAX_PIXELS}")
    width = stream.number(5) + 1
    lengths = [stream.number(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.int64)
    place = 0
    while place < count:
        run = stream.number(1)
        end = place + 1 + stream.number(lengths[stream.number(2)])
        if end > count:
            raise RleError(f"has a group that ends after value {end} of {count}")
        values[place:end] = stream.number(width) if run else stream.numbers(end - place, width)
        place = end
    return values


class _Bits:
    """Reads numbers from an array of bits."""

    def __init__(self, bits: NDArray[np.uint8]) -> None:
        self._bits = bits
        self._place = 0

    def number(self, width: int) -> int:
        return int(self.numbers(1, width)[0])

    def numbers(self, count: int, width: int) -> NDArray[np.int64]:
        end = self._place + count * width
        if end > len(self._bits):
            raise RleError("ends in the middle")
        bits = self._bits[self._place : end].reshape(count, width)
        self._place = end
        return bits @ (np.int64(1) << np.arange(width - 1, -1, -1))
