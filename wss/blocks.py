"""Blocks of a large image, which a network processes one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

BLOCK = 1280
"""Side of a block in pixels. It is a multiple of the tile size in which masks are written."""

MARGIN = 128
"""Width in pixels of the margin around a block that the network also sees. Blocks with it start at multiples of 128."""

WHOLE = 4_000_000
"""Images with at most this number of pixels are processed as a whole."""

Area = tuple[slice, slice]
"""Rows and columns."""


class Block(NamedTuple):
    """A block and its margin.

    Attributes:
        inside: Rows and columns of the block in the image.
        seen: Rows and columns of the block with its margin in the image.
        kept: Rows and columns of the block within ``seen``.
    """

    inside: Area
    seen: Area
    kept: Area


def blocks(height: int, width: int) -> Iterator[Block]:
    """Yield the blocks that cover an image, row by row, without overlap.

    Args:
        height: Number of rows of the image.
        width: Number of columns of the image.
    """
    for top in range(0, height, BLOCK):
        for left in range(0, width, BLOCK):
            rows, columns = _spans(top, height), _spans(left, width)
            yield Block(*zip(rows, columns, strict=True))


def _spans(start: int, length: int) -> tuple[slice, slice, slice]:
    """``inside``, ``seen`` and ``kept`` along one axis."""
    end = min(start + BLOCK, length)
    first, last = max(0, start - MARGIN), min(end + MARGIN, length)
    return slice(start, end), slice(first, last), slice(start - first, end - first)
