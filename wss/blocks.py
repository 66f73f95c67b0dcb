"""Blocks of a large image that go through a network one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

BLOCK = 1280
"""Side of a block, in pixels: a multiple of the tiles in which masks are written."""

MARGIN = 128
"""Width of what the network sees around a block, in pixels: with it, blocks start at multiples of 128."""

WHOLE = 4_000_000
"""Images of at most so many pixels go through the network whole."""

Area = tuple[slice, slice]
"""Rows and columns."""


class Block(NamedTuple):
    """A block and its surroundings.

    Attributes:
        inside: Rows and columns of the block in the image.
        seen: Rows and columns of the block and its margin in the image.
        kept: Rows and columns of the block in what is seen.
    """

    inside: Area
    seen: Area
    kept: Area


def blocks(height: int, width: int) -> Iterator[Block]:
    """The blocks that cover an image, row by row. They do not overlap.

    Args:
        height: Rows of the image.
        width: Columns of the image.
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
