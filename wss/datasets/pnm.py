"""Reading of the stored values of Netpbm files (PBM, PGM, PPM). Image libraries scale them to 255 and invert PBM."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem
from wss.datasets.raster import Colours, Format, Header, Raster, require_size

_TOKEN = re.compile(rb"(?:\s|#[^\n]*\n)*([^\s#]+)")
_LONGER = re.compile(rb"\r\n|\s?(?:#[^\n]*\n)+")
"""Bytes that some programs write between header and values. The format has a single blank there."""
_ANOTHER = re.compile(rb"\s*P[1-6]\s")


class _Start(NamedTuple):
    """Header of a Netpbm file: the kind (1 to 6), width, height, the largest value, and the offset of the values."""

    kind: int
    width: int
    height: int
    most: int
    offset: int

    @property
    def channels(self) -> int:
        return 3 if self.kind in (3, 6) else 1

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(bool if self.most == 1 and self.kind in (1, 4) else np.uint8 if self.most < 256 else np.uint16)


def read(path: Path, page: int | None, max_pixels: int) -> Raster:
    """See ``read_raster``. In PBM, 1 is black, so its values are white-is-zero."""
    data = path.read_bytes()
    start = _start(path, data)
    require_size(path, start.width, start.height, max_pixels)
    values, more = _text(path, start, data) if start.kind in (1, 2, 3) else _binary(start, data)
    if len(values) < start.width * start.height * start.channels:
        raise FileProblem("unreadable-image", path, "ends before its last pixel", "copy or download it again")
    if _ANOTHER.match(more):
        if page is None:
            remedy = (
                "choose the first with the option page (`wss init -o page=0`, or for one image --set read.page=0), or save the "
                "images as files of their own"
            )
            raise FileProblem("stack", path, "holds several images, and one image is expected", remedy)
    elif more.strip(b" \t\r\n\0"):
        message = f"holds more than its {start.width}x{start.height} pixels: {len(more)} further bytes"
        raise FileProblem("unreadable-image", path, message, "save it again")
    if page:
        message = f"has no page {page} that is read: only the first image of Netpbm files is"
        raise FileProblem("stack", path, message, "save the image as a file of its own")
    if values.size and values.max() > start.most:
        message = f"holds the value {int(values.max())}, and says that {start.most} is the largest"
        raise FileProblem("unreadable-image", path, message, "save it again")
    shape = (start.height, start.width) + ((3,) if start.channels == 3 else ())
    pixels: NDArray[Any] = values.astype(start.dtype).reshape(shape)
    colours: Colours = "rgb" if start.channels == 3 else "white-is-zero" if start.kind in (1, 4) else "grey"
    return Raster(pixels, colours, largest=start.most)


def _text(path: Path, start: _Start, data: bytes) -> tuple[NDArray[Any], bytes]:
    """Values that are written as text, and the bytes after them."""
    text = re.sub(rb"#[^\n]*(?:\n|$)", b"\n", data[start.offset :])
    count = start.width * start.height * start.channels
    if start.kind == 1:  # digits may have no spaces between them
        digits = b"".join(text.split())
        words, more = [digits[n : n + 1] for n in range(min(count, len(digits)))], digits[count:]
    else:
        words = text.split(maxsplit=count)
        more = words.pop() if len(words) > count else b""
    if wrong := next((word for word in words if not word.isdigit()), b""):
        message = f"expected numbers from 0, got {wrong[:20].decode('latin-1')!r}"
        raise FileProblem("unreadable-image", path, message, "save it again")
    return np.array([int(word) for word in words], np.int64), more


def _binary(start: _Start, data: bytes) -> tuple[NDArray[Any], bytes]:
    """Values that are written as bytes, and the bytes after them.

    They begin after the single blank at the end of the header. Windows line ends and comments belong to the header if the length
    of the file shows it.
    """
    row = -(-start.width // 8) if start.kind == 4 else start.width * start.channels * (1 + (start.most > 255))
    size, offset = row * start.height, start.offset
    longer = _LONGER.match(data, offset - 1)
    if longer is not None and len(data) == longer.end() + size:
        offset = longer.end()
    body, more = data[offset : offset + size], data[offset + size :]
    if len(body) < size:
        return np.zeros(0, np.uint8), b""
    if longer is not None and offset == start.offset and more:
        more = b"?" + more[1:]  # the start of the values is unknown, so no byte may be skipped
    if start.kind == 4:
        packed = np.frombuffer(body, np.uint8).reshape(start.height, row)
        return np.unpackbits(packed, axis=1)[:, : start.width].ravel(), more
    return np.frombuffer(body, np.uint8 if start.most < 256 else ">u2"), more


def header(path: Path) -> Header:
    """See ``read_header``."""
    start = _start(path, path.read_bytes())
    colours: Colours = "rgb" if start.channels == 3 else "white-is-zero" if start.kind in (1, 4) else "grey"
    return Header((start.height, start.width), start.channels, start.dtype, start.most.bit_length(), colours, 1)


def _start(path: Path, data: bytes) -> _Start:
    kind = int(data[1:2])
    wanted = 2 if kind in (1, 4) else 3
    numbers: list[int] = []
    offset = 2
    for _ in range(wanted):
        match = _TOKEN.match(data, offset)
        if match is None or not match[1].isdigit():
            raise FileProblem("unreadable-image", path, "has no readable size", "save it again")
        numbers.append(int(match[1]))
        offset = match.end()
    width, height, most = (*numbers, 1)[:3]
    if width < 1 or height < 1 or not 0 < most < 65536:
        raise FileProblem("unreadable-image", path, f"has the size {width}x{height} up to {most}", "save it again")
    return _Start(kind, width, height, most, offset + 1)


PNM = Format(read, header)
"""PBM, PGM and PPM, as text or binary."""
