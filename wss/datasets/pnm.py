"""Netpbm files (PBM, PGM, PPM) as the values they store. Image libraries scale them to 255 and turn the bits of PBM."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem
from wss.datasets.raster import Colours, Format, Header, Raster, require_page, require_size

_TOKEN = re.compile(rb"(?:\s|#[^\n]*\n)*([^\s#]+)")


class _Start(NamedTuple):
    """The beginning of a Netpbm file: the kind (1 to 6), width, height, the largest value, and where the values begin."""

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
    """See ``read_raster``. In PBM 1 is black: its values are white-is-zero."""
    data = path.read_bytes()
    start = _start(path, data)
    require_size(path, start.width, start.height, max_pixels)
    count = start.width * start.height * start.channels
    if start.kind in (1, 2, 3):
        text = re.sub(rb"#[^\n]*\n", b"\n", data[start.offset :])
        digits = re.findall(rb"[01]", text) if start.kind == 1 else text.split()
        values: NDArray[Any] = np.array([int(digit) for digit in digits[:count]], np.int64)
        more = 0
    elif start.kind == 4:
        row = -(-start.width // 8)
        packed = np.frombuffer(data, np.uint8, offset=start.offset)
        values = np.unpackbits(packed[: row * start.height].reshape(-1, row), axis=1)[:, : start.width].ravel()
        more = len(packed) - row * start.height
    else:
        stored = np.dtype(np.uint8 if start.most < 256 else ">u2")
        body = data[start.offset :]
        values = np.frombuffer(body[: count * stored.itemsize], stored)
        more = len(body) - count * stored.itemsize
    if len(values) < count:
        raise FileProblem("unreadable-image", path, "ends before its last pixel", "copy or download it again")
    require_page(path, page, 2 if more > 8 else 1, "images or more")
    if values.size and values.max() > start.most:
        message = f"holds the value {int(values.max())}, and says that {start.most} is the largest"
        raise FileProblem("unreadable-image", path, message, "save it again")
    shape = (start.height, start.width) + ((3,) if start.channels == 3 else ())
    found: NDArray[Any] = values.astype(start.dtype).reshape(shape)
    colours: Colours = "rgb" if start.channels == 3 else "white-is-zero" if start.kind in (1, 4) else "grey"
    return Raster(found, colours, largest=start.most)


def header(path: Path) -> Header:
    """See ``read_header``."""
    with path.open("rb") as file:
        start = _start(path, file.read(4096))
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
