"""Reading of parts of TIFF files that are too large to be read as a whole."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem
from wss.datasets.images import Picture, PixelOptions, Ranges, chosen_bands, data_mask, picture, stretch_ranges
from wss.datasets.raster import Raster, opened, require_page
from wss.datasets.tiff import JPEG, channels_of, geo_tags, is_written, masked, open_tiff, require_end, require_written

_CACHE_BYTES = 128 * 2**20
_LARGEST_SEGMENT = 512 * 2**20
_SAMPLED_SEGMENTS = 64
_SAMPLED_VALUES = 2_000_000


class RegionReader(AbstractContextManager["RegionReader"]):
    """A TIFF file of any size that is read part by part. Memory holds the tiles or strips of the part, and some earlier ones.

    The stretch to 8 bits is the same for all parts. Its percentiles come from up to 64 tiles or strips, evenly spread.

    Args:
        path: The file.
        options: Options of the conversion to 8-bit RGB.

    Attributes:
        shape: Height and width.
        geo: GeoTIFF's tags, in the form of ``tifffile``'s ``extratags``.

    Raises:
        DataError: It is no TIFF, is damaged, turned by its orientation, or stored in one piece that is too large; see also
            ``read_picture``.
    """

    def __init__(self, path: Path, options: PixelOptions | None = None) -> None:
        self.path, self._options = path, options or PixelOptions()
        self._stack = ExitStack()
        with opened(path, "unreadable-image"):
            self._layout = self._stack.enter_context(open_tiff(path))
            self._check()
            page, mask = self._layout.page, self._layout.mask
            self._image = _Segments(path, page, self._layout.channels)
            self._mask = None if mask is None else _Segments(path, mask, 1)
            self.shape = (self._layout.height, self._layout.width)
            self.geo = geo_tags(page)
            self._ranges = self._find_ranges()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(self, top: int, left: int, height: int, width: int) -> Picture:
        """A part of the image, uint8 RGB, with the mask of pixels with data. The part is clipped to the image.

        Raises:
            DataError: The file is damaged.
        """
        with opened(self.path, "unreadable-image"):
            bottom, right = min(top + height, self.shape[0]), min(left + width, self.shape[1])
            top, left = max(top, 0), max(left, 0)
            raster = self._raster(*self._part(top, left, bottom, right))
            return picture(raster, self._options, self.path, self._ranges)

    def stored(self, top: int, left: int, height: int, width: int) -> Raster:
        """The stored values of a part of the image, for labels. The part is clipped to the image.

        Raises:
            DataError: The file is damaged.
        """
        with opened(self.path, "unreadable-image"):
            bottom, right = min(top + height, self.shape[0]), min(left + width, self.shape[1])
            return self._raster(*self._part(max(top, 0), max(left, 0), bottom, right))

    def _check(self) -> None:
        layout = self._layout
        require_page(self.path, self._options.page, layout.pages)
        if layout.pages > 1 or layout.channels > layout.page.samplesperpixel:
            message = "is a stack, or has its bands on pages of their own, and is too large to be read whole"
            raise FileProblem("too-large", self.path, message, "save the page or bands as one tiled TIFF")
        if layout.orientation != 1:
            message = f"is stored turned (orientation {layout.orientation}), and too large to be turned"
            raise FileProblem("too-large", self.path, message, "save it upright, as a tiled TIFF")
        if not is_written(layout.page):
            require_written(self.path, layout, layout.page)
        size = int(np.prod(layout.page.chunks)) * np.dtype(layout.page.dtype).itemsize
        if size > _LARGEST_SEGMENT and not layout.page.is_memmappable:
            message = f"is stored in pieces of {size / 2**20:.0f} MB, each of which must be read whole"
            raise FileProblem("too-large", self.path, message, "save it as a tiled TIFF (for example of 512x512)")

    def _raster(self, values: NDArray[Any], empty: NDArray[np.bool_] | None) -> Raster:
        raster = channels_of(self.path, self._layout, values)
        return raster if empty is None else masked(raster, empty)

    def _part(self, top: int, left: int, bottom: int, right: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Stored values (height, width, channels), and the pixels that the file's mask marks as missing data."""
        values = self._image.read(top, left, bottom, right)
        return values, None if self._mask is None else self._mask.read(top, left, bottom, right)[..., 0] == 0

    def _find_ranges(self) -> Ranges:
        """See ``stretch_ranges``, from evenly spread tiles or strips."""
        page = self._layout.page
        rows, columns = page.chunks[0], page.chunks[1]
        places = [(y, x) for y in range(0, self.shape[0], rows) for x in range(0, self.shape[1], columns)]
        step = max(1, len(places) // _SAMPLED_SEGMENTS)
        chosen = places[step // 2 :: step][: _SAMPLED_SEGMENTS + 1]
        share = max(1, round((len(chosen) * rows * columns / _SAMPLED_VALUES) ** 0.5))
        parts, holes = [], []
        for y, x in chosen:
            values, empty = self._part(y, x, min(y + rows, self.shape[0]), min(x + columns, self.shape[1]))
            parts.append(values[::share, ::share].reshape(-1, 1, values.shape[2]))
            if empty is not None:
                holes.append(empty[::share, ::share].reshape(-1, 1))
        raster = self._raster(np.concatenate(parts), np.concatenate(holes) if holes else None)
        values = chosen_bands(raster, self._options, self.path)
        nodata = {raster.nodata, self._options.nodata}
        return stretch_ranges(values, raster, self._options, data_mask(values, nodata, self.path, raster.empty))


class _Segments:
    """The tiles or strips of one page, with a cache of the latest ones.

    The cache is one array, because many small long-lived arrays among large temporary ones would fragment the memory.

    Args:
        path: The file.
        page: The page.
        channels: Its channels.
    """

    def __init__(self, path: Path, page: tifffile.TiffPage, channels: int) -> None:
        self._path, self._page, self._channels = path, page, channels
        self._shape = (page.imagelength, page.imagewidth)
        self._kept: OrderedDict[int, tuple[int, int, int]] = OrderedDict()  # slot, rows and columns, the latest last

    @cached_property
    def _slots(self) -> NDArray[Any]:
        page = self._page
        shape = (*page.chunks[:2], 1 if page.planarconfig == 2 else self._channels)
        room = _CACHE_BYTES // max(1, int(np.prod(shape)) * np.dtype(page.dtype).itemsize)
        return np.empty((max(1, min(room, len(page.dataoffsets))), *shape), page.dtype)

    def read(self, top: int, left: int, bottom: int, right: int) -> NDArray[Any]:
        """Stored values (height, width, channels)."""
        page = self._page
        if page.is_memmappable and is_written(page):
            whole = page.asarray(out="memmap")
            image = np.moveaxis(whole, 0, -1) if page.axes.startswith("S") else whole.reshape(*self._shape, -1)
            return np.array(image[top:bottom, left:right])
        region = np.zeros((bottom - top, right - left, self._channels), page.dtype)
        rows, columns = page.chunks[0], page.chunks[1]
        across = -(-self._shape[1] // columns)
        per_plane = across * -(-self._shape[0] // rows)
        planes = self._channels if page.planarconfig == 2 else 1
        for y in range(top // rows, -(-bottom // rows)):
            for x in range(left // columns, -(-right // columns)):
                for plane in range(planes):
                    tile = self._segment(plane * per_plane + y * across + x)
                    y0, x0 = max(top, y * rows), max(left, x * columns)
                    y1, x1 = min(bottom, (y + 1) * rows), min(right, (x + 1) * columns)
                    part = tile[y0 - y * rows : y1 - y * rows, x0 - x * columns : x1 - x * columns]
                    channels = slice(plane, plane + 1) if planes > 1 else slice(None)
                    region[y0 - top : y1 - top, x0 - left : x1 - left, channels] = part
        return region

    def _segment(self, index: int) -> NDArray[Any]:
        """One decoded tile or strip (rows, columns, channels)."""
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._view(index)
        page = self._page
        offset, length = page.dataoffsets[index], page.databytecounts[index]
        if length == 0:  # GDAL does not write empty tiles
            channels = 1 if page.planarconfig == 2 else self._channels
            tile: NDArray[Any] = np.full((*page.chunks[:2], channels), page.nodata, page.dtype)
        else:
            decode = page.decode  # created on first use, which reads from the file
            page.parent.filehandle.seek(offset)
            data = page.parent.filehandle.read(length)
            if len(data) < length:
                raise FileProblem("unreadable-image", self._path, "ends before its last pixel", "copy it again")
            if int(page.compression) == JPEG:
                require_end(self._path, data)
            decoded, _, _ = decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
            if decoded is None:
                raise FileProblem("unreadable-image", self._path, f"has no data in part {index}", "copy it again")
            tile = decoded[0]
        full = len(self._kept) == len(self._slots)
        slot = self._kept.popitem(last=False)[1][0] if full else len(self._kept)
        rows, columns = tile.shape[:2]
        self._slots[slot, :rows, :columns] = tile
        self._kept[index] = (slot, rows, columns)
        return self._view(index)

    def _view(self, index: int) -> NDArray[Any]:
        slot, rows, columns = self._kept[index]
        return self._slots[slot, :rows, :columns]
