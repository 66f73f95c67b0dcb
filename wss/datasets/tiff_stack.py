"""TIFF files with several pages as volumes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from defusedxml.ElementTree import fromstring
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem
from wss.datasets.raster import MAX_PIXELS, Raster, opened, read_raster, require_size, unsupported, upright
from wss.datasets.tiff import Layout, channels_of, open_tiff
from wss.datasets.volume_file import Grid, VolumeFile, kept_array, require_channel

_MILLIMETRES = {"m": 1000.0, "cm": 10.0, "mm": 1.0, "µm": 1e-3, "μm": 1e-3, "um": 1e-3, "micron": 1e-3, "nm": 1e-6}


class TiffStack(VolumeFile):
    """A multi-page TIFF. Axes are pages, rows and columns. A file with one page is a volume with one slice.

    The spacing is read from metadata of ImageJ or OME, if present.

    Args:
        path: The file.
        channel: Which stack of a file with two kinds of pages (time and depth), from 0.

    Raises:
        DataError: See ``open_tiff``; or more than two kinds of pages; or two without ``channel``.
    """

    axis = 0

    def __init__(self, path: Path, channel: int | None = None) -> None:
        self.path, self.files = path, (path,)
        with opened(path, "unreadable-image"):
            if path.is_dir():
                raise FileProblem("unreadable-image", path, "is a folder", "give a TIFF file")
            with open_tiff(path) as layout:
                sizes = dict(zip(layout.series.axes, layout.series.shape, strict=True))
                depth, self._first, self._step = self._pages(sizes, layout, channel)
                self._whole = layout.pages > 1 and (
                    layout.channels > layout.page.samplesperpixel or len(layout.series) != layout.pages
                )
                turned = layout.orientation >= 5
                rows, columns = (layout.width, layout.height) if turned else (layout.height, layout.width)
                spacing = _spacing(layout)
                if spacing is not None and turned:
                    spacing = (spacing[0], spacing[2], spacing[1])
                self.grid = Grid((depth, rows, columns), spacing)
                bits = int(layout.page.bitspersample)
                if bits > 8 or np.dtype(layout.page.dtype).kind == "f":
                    self.values = f"{np.dtype(layout.page.dtype)} values"

    def raster(self, axis: int, number: int) -> Raster:
        """See ``VolumeFile.raster``; slices are along axis 0."""
        page = self._first + number * self._step
        if not self._whole:
            raster = read_raster(self.path, page=page)
            shape = raster.values.shape[:2]
            if shape != self.grid.shape[1:]:
                message = f"page {page} is turned otherwise than the first: {shape[1]}x{shape[0]} pixels"
                raise unsupported(self.path, message, "save all pages upright")
            return raster
        with opened(self.path, "unreadable-image"), open_tiff(self.path) as layout:
            require_size(self.path, layout.width, layout.height, MAX_PIXELS)
            stored = kept_array(self.path, "pages", lambda: _all_pages(layout))
            values = np.array(stored[page])
            values = values.astype(values.dtype.newbyteorder("="))
            return upright(channels_of(self.path, layout, values), layout.orientation)

    def _pages(self, sizes: dict[str, int], layout: Layout, channel: int | None) -> tuple[int, int, int]:
        """Number of slices, page of the first, and step from one to the next."""
        inner = "YXS" if layout.channels == layout.page.samplesperpixel else "YXSC"
        kinds = [(axis, size) for axis, size in sizes.items() if axis not in inner and size > 1]
        if len(kinds) > 2:
            named = " x ".join(f"{size} {axis}" for axis, size in kinds)
            raise unsupported(
                self.path, f"has pages of {len(kinds)} kinds ({named})", "save each stack as its own file"
            )
        if len(kinds) < 2:
            return kinds[0][1] if kinds else 1, require_channel(self.path, channel, 1, "one stack"), 1
        of_slices = 0 if kinds[0][0] == "Z" else 1
        depth, count = kinds[of_slices][1], kinds[1 - of_slices][1]
        what = (
            f"{' x '.join(f'{size} {axis}' for axis, size in kinds)} pages; {kinds[of_slices][0]} are taken for slices"
        )
        number = require_channel(self.path, channel, count, what)
        return (depth, number, count) if of_slices == 0 else (depth, number * depth, 1)


def _all_pages(layout: Layout) -> NDArray[Any]:
    """All images (pages, height, width, channels): mapped where the file allows it."""
    series = layout.series
    direct = series.dataoffset is not None and series.keyframe.is_memmappable
    values = series.asarray(out="memmap") if direct else series.asarray()
    if layout.channels > layout.page.samplesperpixel:
        values = np.moveaxis(values, series.axes.index("C"), -1)
    elif "S" in series.axes:
        values = np.moveaxis(values, series.axes.index("S"), -1)
    return values.reshape(-1, layout.height, layout.width, layout.channels)


def _spacing(layout: Layout) -> tuple[float, float, float] | None:
    file = layout.page.parent
    if file.is_ome and file.ome_metadata:
        return _ome_spacing(file.ome_metadata)
    if file.is_imagej and file.imagej_metadata:
        return _imagej_spacing(file.imagej_metadata, layout.page)
    return None


def _ome_spacing(text: str) -> tuple[float, float, float] | None:
    root = fromstring(text, forbid_dtd=True)
    pixels = next((element for element in root.iter() if element.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return None
    spacing = []
    for name in ("PhysicalSizeZ", "PhysicalSizeY", "PhysicalSizeX"):
        factor = _MILLIMETRES.get(pixels.get(f"{name}Unit", "µm"))
        value = pixels.get(name)
        if value is None or factor is None or not float(value) > 0:
            return None
        spacing.append(float(value) * factor)
    return spacing[0], spacing[1], spacing[2]


def _imagej_spacing(metadata: dict[str, Any], page: tifffile.TiffPage) -> tuple[float, float, float] | None:
    unit = re.sub(r"\\u00b5|\\u00B5", "µ", str(metadata.get("unit", "")))
    factor = _MILLIMETRES.get({"inch": "inch", "microns": "micron", "millimeter": "mm"}.get(unit, unit))
    factor = 25.4 if unit == "inch" else factor
    across, down = page.tags.get("XResolution"), page.tags.get("YResolution")
    between = metadata.get("spacing")
    if factor is None or across is None or down is None or not between or not float(between) > 0:
        return None
    steps = []
    for tag in (down, across):
        pixels, units = tag.value
        if not pixels or not units:
            return None
        steps.append(units / pixels * factor)
    return float(between) * factor, steps[0], steps[1]
