"""Checks of JPEG and WebP files that decoders skip: the kind of compression, and the end of the data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wss.datasets.finding import FileProblem
from wss.datasets.raster import unsupported

_START_OF_SCAN, _END_OF_IMAGE = 0xDA, b"\xff\xd9"
_LOSSLESS = {0xC3: "lossless JPEG", 0xF7: "JPEG-LS"}
_ALONE = {0x01, *range(0xD0, 0xD9)}
"""Markers without content."""


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Markers of a JPEG before its first pixels, with content and end position. Stops early if the file is damaged."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF or marker in _ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        yield marker, data[place + 4 : end], end
        if marker == _START_OF_SCAN:
            return
        place = end


def refuse_jpeg(path: Path) -> None:
    """Raise if a file is a valid JPEG of an unsupported kind.

    Raises:
        DataError: The file does not have 8 bits, or is JPEG-LS or lossless JPEG.
    """
    data = path.read_bytes()
    if data[:2] != b"\xff\xd8":
        return
    for marker, content, _ in _segments(data):
        if marker in _LOSSLESS:
            raise unsupported(path, f"a {_LOSSLESS[marker]} file, which is not read", "save it as PNG or TIFF")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and content[:1] not in (b"", b"\x08"):
            raise unsupported(path, f"a JPEG of {content[0]} bits, which is not read", "save it as PNG or TIFF")


def require_jpeg_end(path: Path) -> None:
    """Check that a JPEG is complete. Decoders would silently read the zeros of unfinished downloads as pixels.

    Raises:
        DataError: The file has no end marker.
    """
    data = path.read_bytes()
    start = next((end for marker, _, end in _segments(data) if marker == _START_OF_SCAN), 0)
    if data.find(_END_OF_IMAGE, start) < 0:
        raise FileProblem("unreadable-image", path, "ends before its last pixel", "copy or download it again")


def is_lossy_webp(data: bytes) -> bool:
    """True if a WebP file, or the first frame of its animation, has lossy compression."""
    place = 12
    while place + 8 <= len(data):
        name, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8 "
        place += 24 if name == b"ANMF" else 8 + size + size % 2
    return False
