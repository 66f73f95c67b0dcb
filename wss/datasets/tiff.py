"""TIFF files as the values they store: every depth, strips and tiles, planar and chunky, pages and bands."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem
from wss.datasets.raster import (
    Colours,
    Format,
    Header,
    Raster,
    require_page,
    require_size,
    unsupported,
    upright,
)

_ORIENTATION, _NODATA = 274, 42113
_LOSSY = ("JPEG", "OJPEG", "WEBP", "JPEGXR", "JPEG_2000_LOSSY", "JPEG_LOSSY")
_CHANNEL_AXES = "SC"

GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
"""GeoTIFF: pixel scale, tie points, transformation, and the three tags of keys."""

logging.getLogger("tifffile").setLevel(
    logging.CRITICAL
)  # what it would print comes as one error of ours, or is harmless


@dataclass(frozen=True)
class Layout:
    """The images of a TIFF file: one series of pages of the same size.

    Attributes:
        series: The pages.
        page: The first of them; sizes, types and colours of the others are the same.
        pages: How many images there are, channels not counted.
        height: Rows, as stored.
        width: Columns, as stored.
        channels: Channels of one image, alpha among them; on pages of their own or not.
        colours: Meaning of the channels.
        alpha: Whether the last channel is alpha.
    """

    series: tifffile.TiffPageSeries
    page: tifffile.TiffPage
    pages: int
    height: int
    width: int
    channels: int
    colours: Colours
    alpha: bool

    @property
    def orientation(self) -> int:
        """1 to 8."""
        tag = self.page.tags.get(_ORIENTATION)
        return int(tag.value) if tag is not None and tag.value in range(1, 9) else 1

    @property
    def nodata(self) -> float | None:
        """The value of pixels without data."""
        return float(self.page.nodata) if _NODATA in self.page.tags else None


def geo_tags(page: tifffile.TiffPage) -> list[tuple[Any, ...]]:
    """GeoTIFF's tags of a page, as ``tifffile.imwrite`` takes them in ``extratags``; without the value for no data."""
    found = (page.tags.get(code) for code in GEO_TAGS)
    return [(tag.code, int(tag.dtype), tag.count, tag.value, True) for tag in found if tag is not None]


@contextmanager
def open_tiff(path: Path) -> Iterator[Layout]:
    """Open a TIFF file and say what is in it; nothing is decoded.

    Raises:
        DataError: It holds images of several sizes, colours that are not read, or no image.
    """
    with tifffile.TiffFile(path) as file:
        series = [s for s in file.series if not (s.keyframe.is_reduced or s.keyframe.is_mask)] or file.series
        if not series:
            raise FileProblem("unreadable-image", path, "holds no image", "copy or download it again")
        if len(series) > 1:
            sizes = ", ".join(sorted({"x".join(map(str, s.keyframe.shape[:2][::-1])) for s in series}))
            message = f"holds {len(series)} images of different sizes or types ({sizes})"
            raise FileProblem("stack", path, message, "save each as a file of its own")
        yield _layout(path, series[0])


def _layout(path: Path, series: tifffile.TiffPageSeries) -> Layout:
    page = series.keyframe
    if series.is_multifile or any(member is None for member in series):
        message = "is one of several files of an OME-TIFF, which belong together"
        raise unsupported(path, message, "save all of them as one TIFF (Fiji: Bio-Formats import, then Save As Tiff)")
    sizes = dict(zip(series.axes, series.shape, strict=True))
    samples = page.samplesperpixel
    on_pages = sizes.get("C", 1) if samples == 1 else 1
    channels = samples * on_pages
    others = int(np.prod([size for axis, size in sizes.items() if axis not in "YXSC"], dtype=np.int64))
    pages = others * (sizes.get("C", 1) if samples > 1 else 1)
    colours, alpha = _colours(path, page, channels, on_pages)
    return Layout(series, page, pages, sizes.get("Y", 1), sizes.get("X", 1), channels, colours, alpha)


def _colours(path: Path, page: tifffile.TiffPage, channels: int, on_pages: int) -> tuple[Colours, bool]:
    """Meaning of the channels, and whether the last one is alpha."""
    photometric = getattr(page.photometric, "name", str(page.photometric))
    extra = [int(sample) for sample in page.extrasamples]
    alpha = bool(extra) and extra[-1] in (1, 2)
    own = channels - len(extra)
    if on_pages > 1:
        return "bands", False
    if photometric == "YCBCR" and getattr(page.compression, "name", "") in ("JPEG", "OJPEG", "WEBP"):
        photometric = "RGB"  # decoders give RGB
    if photometric == "RGB" and own == 3 and len(extra) - alpha == 0:
        return "rgb", alpha
    if photometric == "SEPARATED" and own == 4 and len(extra) - alpha == 0:
        return "cmyk", alpha
    if photometric == "PALETTE" and own == 1 and len(extra) - alpha == 0:
        return "palette", alpha
    if photometric in ("MINISBLACK", "MINISWHITE") and channels - alpha == 1:
        return ("grey" if photometric == "MINISBLACK" else "white-is-zero"), alpha
    if photometric in ("RGB", "MINISBLACK", "MINISWHITE"):
        return "bands", False
    raise unsupported(path, f"has colours of the kind {photometric}, which is not read", "save it as grey or RGB")


def read(path: Path, page: int | None, max_pixels: int) -> Raster:
    """See ``read_raster``. Channels on pages of their own (axis C) become channels."""
    with open_tiff(path) as layout:
        require_size(path, layout.width, layout.height, max_pixels)
        number = require_page(path, page, layout.pages)
        try:
            values = _values(layout, number)
        except (NotImplementedError, KeyError, ValueError) as error:
            compression = getattr(layout.page.compression, "name", str(layout.page.compression))
            if "requires the 'imagecodecs'" in str(error) or "not supported" in str(error) or "KeyError" in repr(error):
                message = f"has the compression {compression}, which cannot be read ({error})"
                raise unsupported(path, message, "save it without compression, or with LZW or deflate") from None
            raise
        layout = _own_tags(layout, number)
        return upright(channels_of(path, layout, values), layout.orientation)


def _own_tags(layout: Layout, number: int) -> Layout:
    """With the tags of one page: orientation, palette and value without data may differ between pages."""
    if layout.pages == 1 or len(layout.series) != layout.pages:
        return layout
    page = layout.series[number]
    return layout if page is None else replace(layout, page=page.aspage())


def _values(layout: Layout, number: int) -> NDArray[Any]:
    """One image, (height, width, channels) as stored."""
    axes = layout.series.axes
    if layout.pages == 1 or layout.channels > layout.page.samplesperpixel or "Y" not in axes:
        values = layout.series.asarray()
    else:  # one page of many
        pages = [axis for axis in axes if axis not in "YXS"]
        if len(layout.series) == layout.pages:
            values = layout.series.asarray(key=number)
            axes = layout.page.axes
        else:  # all frames of an ImageJ file have one page between them
            values = layout.series.asarray().reshape(-1, *layout.series.shape[len(pages) :])[number]
            axes = axes[len(pages) :]
    if layout.channels > layout.page.samplesperpixel:  # channels on pages
        values = np.moveaxis(values, axes.index("C"), -1)
        values = values.reshape(-1, layout.height, layout.width, layout.channels)[number]
    elif "S" in axes:
        values = np.moveaxis(values, axes.index("S"), -1)
    return values.reshape(layout.height, layout.width, layout.channels)


def channels_of(path: Path, layout: Layout, values: NDArray[Any]) -> Raster:
    """Tell alpha from colours; ``values`` are (height, width, channels), of the whole image or a part of it.

    Raises:
        DataError: The values are no real numbers.
    """
    if values.dtype.kind not in "buif":
        raise unsupported(path, f"holds values of the type {values.dtype}, which are not read", "save real numbers")
    transparent = values[..., -1] == 0 if layout.alpha else None
    if layout.alpha:
        values = values[..., :-1]
    if values.shape[2] == 1:
        values = values[..., 0]
    palette = None
    if layout.colours == "palette" and layout.page.colormap is not None:
        palette = np.asarray(np.asarray(layout.page.colormap).T >> 8, np.uint8)
    lossy = getattr(layout.page.compression, "name", "") in _LOSSY
    bits = int(layout.page.bitspersample)
    largest = 2.0**bits - 1 if bits <= 8 and values.dtype.kind in "bu" else None
    return Raster(values, layout.colours, palette, transparent, layout.nodata, lossy, largest)


def header(path: Path) -> Header:
    """See ``read_header``."""
    with open_tiff(path) as layout:
        turn = layout.orientation
        shape = (layout.width, layout.height) if turn in (5, 6, 7, 8) else (layout.height, layout.width)
        dtype = np.dtype(layout.page.dtype if layout.page.dtype is not None else np.uint8)
        return Header(shape, layout.channels, dtype, int(layout.page.bitspersample), layout.colours, turn)


TIFF = Format(read, header)
"""TIFF and BigTIFF."""
