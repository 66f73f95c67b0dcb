"""PNG files, written in a few milliseconds: answers are read once and never kept."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def indexed(labels: NDArray[np.uint8], palette: Sequence[tuple[int, int, int]]) -> bytes:
    """Labels as indices of a palette; 255 is transparent.

    Args:
        labels: uint8 (H,W).
        palette: Red, green and blue by class.
    """
    colours = bytearray(768)
    for index, colour in enumerate(palette):
        colours[3 * index : 3 * index + 3] = bytes(colour)
    return _png(labels, 3, _chunk(b"PLTE", bytes(colours)) + _chunk(b"tRNS", b"\xff" * 255 + b"\0"))


def grey(values: NDArray[np.uint8]) -> bytes:
    """Grey values, uint8 (H,W)."""
    return _png(values, 0, b"")


def text(data: bytes) -> str:
    """Base64, for JSON."""
    return base64.b64encode(data).decode("ascii")


def _png(values: NDArray[np.uint8], colour_type: int, between: bytes) -> bytes:
    height, width = values.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter, none
    rows[:, 1:] = values
    packer = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE if colour_type == 3 else zlib.Z_DEFAULT_STRATEGY)
    data = packer.compress(rows.tobytes()) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + between + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
