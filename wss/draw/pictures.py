"""Images as pyramids of tiles: the halved copies of an image that a page needs to show it at any zoom."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wss.datasets.images import PixelOptions, picture, read_header
from wss.datasets.raster import read_raster
from wss.draw.project import Project
from wss.draw.refusals import Refused
from wss.errors import WssError
from wss.store.atomic import replace_file

TILE = 512
"""Longest side of a tile."""
LARGEST = 120_000_000
"""Images with more pixels are refused."""
IN_MEMORY = 16_000_000
"""Images with more pixels are kept in files that are mapped, so that memory stays small."""
KEPT_BYTES = 384 * 2**20
"""Pyramids in memory."""


@dataclass(frozen=True)
class Pyramid:
    """An image and its halved copies.

    Attributes:
        levels: uint8 (H,W,3), each half as high and wide as the one before, rounded up; the last fits into a tile.
        values: uint16 levels (H,W) or (H,W,3) as the file stores them, or None for images of 8 bits.
        limits: Smallest and largest stored value, or None.
    """

    levels: tuple[NDArray[np.uint8], ...]
    values: tuple[NDArray[np.uint16], ...] | None = None
    limits: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.levels[0].shape[0], self.levels[0].shape[1]

    @property
    def nbytes(self) -> int:
        """Memory that it takes; mapped files take none."""
        arrays: tuple[NDArray[Any], ...] = (*self.levels, *(self.values or ()))
        return sum(a.nbytes for a in arrays if not isinstance(a, np.memmap))


def level_count(height: int, width: int) -> int:
    """Levels of a pyramid whose last one fits into a tile."""
    count = 1
    while max(height, width) > TILE:
        height, width, count = (height + 1) // 2, (width + 1) // 2, count + 1
    return count


class Pictures:
    """Opens images, keeps the last ones.

    Args:
        project: Whose images.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._kept: OrderedDict[str, Pyramid] = OrderedDict()
        self._lock = threading.RLock()
        self._opening: dict[str, threading.Lock] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._deep: set[str] = set()
        self._problems: dict[str, tuple[Any, str | None]] = {}
        self._read: dict[str, Any] = {}

    def size(self, name: str) -> tuple[int, int] | None:
        """Height and width, as far as they can be told without decoding the image."""
        if name not in self._sizes:
            self.problem(name)
        return self._sizes.get(name)

    def bits(self, name: str) -> int:
        """8 or 16, as the file says."""
        self.problem(name)
        return 16 if name in self._deep else 8

    def problem(self, name: str) -> str | None:
        """Why an image's file cannot be read; None: it can, as far as anybody tried. A changed file is looked at anew."""
        file = self._project.file(name)
        state = _state(file)
        if name not in self._problems or self._problems[name][0] != state:
            try:
                header = None if file is None else read_header(file)
            except WssError as error:
                self._problems[name] = (state, str(error))
                return str(error)
            self._problems[name] = (state, None)
            if header is not None:
                self._sizes[name] = header.shape
                self._deep |= {name} if header.dtype == np.uint16 else set()
        return self._problems[name][1]

    def sound(self, name: str) -> bool:
        """True if the whole image can be read. It is decoded, unless that was done already and its file is as it was."""
        file = self._project.file(name)
        if self.problem(name) is not None:
            return False
        if file is not None and self._read.get(name) != _state(file):
            try:
                self._open(name)
            except WssError:
                return False
        return True

    def rgb(self, name: str) -> NDArray[np.uint8]:
        """The image as wss trains on it, uint8 (H,W,3)."""
        return self.pyramid(name).levels[0]

    def pyramid(self, name: str) -> Pyramid:
        """The pyramid of an image; opened once, however many ask at a time.

        Raises:
            DataError: The image cannot be read, or is too large.
        """
        with self._lock:
            pyramid = self._kept.get(name)
            if pyramid is not None:
                self._kept.move_to_end(name)
                return pyramid
            opening = self._opening.setdefault(name, threading.Lock())
        with opening:
            with self._lock:
                if name in self._kept:
                    return self._kept[name]
            made = self._open(name)
            with self._lock:
                self._sizes[name] = made.shape
                self._kept[name] = made
                while len(self._kept) > 1 and sum(p.nbytes for p in self._kept.values()) > KEPT_BYTES:
                    self._kept.popitem(last=False)
            return made

    def tile(
        self, name: str, level: int, x: int, y: int, window: tuple[float, float] | None = None, side: int = TILE
    ) -> bytes:
        """One tile as PNG (level 0) or JPEG.

        Args:
            name: The image.
            level: 0 is the image, each further one half as large.
            x: Column of tiles.
            y: Row of tiles.
            window: Stored values that become black and white.
            side: Of the tile.

        Raises:
            Refused: There is no such tile.
        """
        pyramid = self.pyramid(name)
        if not 0 <= level < len(pyramid.levels):
            raise Refused(404, "the image has no such level")
        stored = pyramid.levels[level] if window is None or pyramid.values is None else pyramid.values[level]
        part = stored[y * side : (y + 1) * side, x * side : (x + 1) * side] if x >= 0 and y >= 0 else stored[:0]
        if part.size == 0:
            raise Refused(404, "the image has no such tile")
        shown = np.ascontiguousarray(part) if window is None else _windowed(part, *window)
        if level == 0:
            return encode(".png", shown, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        return encode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 90])

    def thumbnail(self, name: str, side: int = 160) -> bytes:
        """A small JPEG of an image."""
        smallest = np.asarray(self.pyramid(name).levels[-1])
        scale = side / max(smallest.shape[:2])
        if scale < 1:
            size = (max(1, round(smallest.shape[1] * scale)), max(1, round(smallest.shape[0] * scale)))
            smallest = np.asarray(cv2.resize(smallest, size, interpolation=cv2.INTER_AREA))
        return encode(".jpg", smallest, [cv2.IMWRITE_JPEG_QUALITY, 85])

    def _open(self, name: str) -> Pyramid:
        """Read an image, and remember whether that was possible."""
        state = _state(self._project.file(name))
        try:
            made = self._made(name)
        except WssError as error:
            self._problems[name] = (state, str(error))
            raise
        self._read[name] = state
        return made

    def _made(self, name: str) -> Pyramid:
        file = self._project.file(name)
        size = self.size(name)
        if file is not None and size is not None and size[0] * size[1] > IN_MEMORY:
            return self._mapped(name, file)
        rgb, values = self._decoded(name, file)
        limits = None if values is None else (int(values.min()), int(values.max()))
        return Pyramid(tuple(_levels(rgb)), None if values is None else tuple(_levels(values)), limits)

    def _decoded(self, name: str, file: Path | None) -> tuple[NDArray[np.uint8], NDArray[np.uint16] | None]:
        """The image of 8 bits and, of files with 16 bits, the stored values."""
        load = getattr(self._project.source, "load_image", None)
        if file is None:
            return (load(name) if load else self._project.source.read(name).image), None
        options = getattr(self._project.source, "options", PixelOptions())
        raster = read_raster(file, page=options.page, max_pixels=LARGEST)
        rgb = picture(raster, options, file).rgb
        deep = raster.values.dtype == np.uint16 and (raster.values.ndim == 2 or raster.values.shape[2] == 3)
        return rgb, raster.values if deep else None

    def _mapped(self, name: str, file: Path) -> Pyramid:
        """A pyramid in files, made when they are not there yet."""
        state = file.stat()
        stamp = hashlib.sha256(f"{name!a} {state.st_size} {state.st_mtime_ns} 1".encode()).hexdigest()[:24]
        folder = self._project.cache / "pyramids" / stamp
        if not (folder / "done").exists():
            rgb, values = self._decoded(name, file)
            for kind, base in (("rgb", rgb), ("values", values)):
                for number, array in enumerate(_levels(base) if base is not None else ()):
                    with replace_file(folder / f"{kind}-{number}.npy", flush=False) as path, path.open("wb") as out:
                        np.save(out, array)
            limits = "" if values is None else f"{values.min()} {values.max()}"
            with replace_file(folder / "done") as path:
                path.write_text(limits)
            del rgb, values
        text = (folder / "done").read_text().split()
        return Pyramid(
            _map(folder, "rgb"), _map(folder, "values") or None, (int(text[0]), int(text[1])) if text else None
        )


def encode(suffix: str, image: NDArray[Any], options: list[int]) -> bytes:
    """Encode an image, RGB or grey, by OpenCV, which takes BGR."""
    shown = image[..., ::-1] if image.ndim == 3 else image
    done, data = cv2.imencode(suffix, np.ascontiguousarray(shown), options)
    if not done:
        raise Refused(500, "the picture could not be encoded")
    return bytes(data)


def _state(file: Path | None) -> Any:
    """Size and time of a file, which change when the file does; None if there is no file."""
    try:
        status = None if file is None else file.stat()
    except OSError:
        return None
    return None if status is None else (status.st_size, status.st_mtime_ns)


def _levels(image: NDArray[Any]) -> list[NDArray[Any]]:
    levels = [np.ascontiguousarray(image)]
    while max(levels[-1].shape[:2]) > TILE:
        height, width = levels[-1].shape[:2]
        size = ((width + 1) // 2, (height + 1) // 2)
        levels.append(np.asarray(cv2.resize(levels[-1], size, interpolation=cv2.INTER_AREA)))
    return levels


def _map(folder: Path, kind: str) -> tuple[Any, ...]:
    count = len(list(folder.glob(f"{kind}-*.npy")))
    return tuple(np.load(folder / f"{kind}-{number}.npy", mmap_mode="r", allow_pickle=False) for number in range(count))


def _windowed(part: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    if not high > low:
        raise Refused(400, "expected lo below hi")
    scaled = (part.astype(np.float32) - low) * (255 / (high - low))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)
