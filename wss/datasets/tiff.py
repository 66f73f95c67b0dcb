"""Read the stored values of TIFF files: all bit depths, strips and tiles, planar and chunky, pages and bands."""

from __future__ import annotations

import logging
import math
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

_BITS, _ORIENTATION, _NODATA = 258, 274, 42113
_LOSSY = ("JPEG", "OJPEG", "WEBP", "JPEGXR", "JPEG_2000_LOSSY", "JPEG_LOSSY")
_CHANNEL_AXES = "SC"

JPEG = 7
"""Code of JPEG compression, whose decoder fills missing data with grey."""

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
        page: The first page. All pages have the same size, type and colours.
        pages: Number of images, not counting channels.
        height: Rows, as stored.
        width: Columns, as stored.
        channels: Number of channels of one image, including alpha. Each channel may be stored as a separate page.
        colours: Meaning of the channels.
        alpha: Whether the last channel is alpha.
        nodata: The value of pixels without data, in the type of the values. None if the file names no value, or one that no
            pixel can have.
        mask: The page that is 0 at pixels without data, as written by GDAL, or None.
    """

    series: tifffile.TiffPageSeries
    page: tifffile.TiffPage
    pages: int
    height: int
    width: int
    channels: int
    colours: Colours
    alpha: bool
    nodata: float | None
    mask: tifffile.TiffPage | None

    @property
    def orientation(self) -> int:
        """1 to 8."""
        tag = self.page.tags.get(_ORIENTATION)
        return int(tag.value) if tag is not None and tag.value in range(1, 9) else 1


def geo_tags(page: tifffile.TiffPage) -> list[tuple[Any, ...]]:
    """GeoTIFF tags of a page in the form of ``extratags`` of ``tifffile.imwrite``, without the no-data value."""
    tags = (page.tags.get(code) for code in GEO_TAGS)
    return [(tag.code, int(tag.dtype), tag.count, tag.value, True) for tag in tags if tag is not None]


@contextmanager
def open_tiff(path: Path) -> Iterator[Layout]:
    """Open a TIFF file and describe its content. Nothing is decoded.

    Raises:
        DataError: The file has images of several sizes, unsupported colours, no image, or a no-data value that is not a
            number.
    """
    with tifffile.TiffFile(path) as file:
        series = [s for s in file.series if not (s.keyframe.is_reduced or s.keyframe.is_mask)] or file.series
        if not series:
            raise FileProblem("unreadable-image", path, "holds no image", "copy or download it again")
        images = [image for one in series for image in (one, *_unmarked(one))]
        if len(images) > 1:
            sizes = ", ".join(sorted({f"{image.keyframe.imagewidth}x{image.keyframe.imagelength}" for image in images}))
            message = f"holds {len(images)} images of different sizes or types ({sizes})"
            raise FileProblem("stack", path, message, "save each as a file of its own")
        yield _layout(path, series[0], _mask(file, series[0].keyframe))


def _unmarked(series: tifffile.TiffPageSeries) -> list[tifffile.TiffPageSeries]:
    """Smaller images that are treated as reduced copies only because of their sizes; the file does not mark them."""
    if series.kind != "generic":
        return []
    return [s for s in series.levels[1:] if isinstance(s.keyframe.index, int) and not s.keyframe.is_reduced]


def _mask(file: tifffile.TiffFile, image: tifffile.TiffPage) -> tifffile.TiffPage | None:
    pages = (series.keyframe for series in file.series if series.keyframe.is_mask and not series.keyframe.is_reduced)
    same = (page for page in pages if (page.imagelength, page.imagewidth) == (image.imagelength, image.imagewidth))
    return next((page for page in same if page is not image and page.samplesperpixel == 1), None)


def _nodata(path: Path, page: tifffile.TiffPage) -> float | None:
    """Parse the no-data value, which GDAL writes as text. tifffile gives 0 for values that the type cannot represent."""
    tag = page.tags.get(_NODATA)
    text = "" if tag is None else str(tag.value).strip(" \0").replace(",", ".").lower()
    if not text:
        return None
    try:
        value = int(text) if text.lstrip("+-").isdigit() else math.nan if "#" in text else float(text)
    except ValueError:
        message = f"names {text[:40]!r} as the value of pixels without data, which is no number"
        raise unsupported(
            path, message, "correct its tag GDAL_NODATA, or remove it (`gdal_edit.py -unsetnodata`)"
        ) from None
    dtype = np.dtype(page.dtype if page.dtype is not None else np.uint8)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            stored = float(np.asarray(value, dtype))
        return None if math.isinf(stored) and not math.isinf(value) else stored
    if dtype.kind not in "iu" or value != value or value in (math.inf, -math.inf) or value != int(value):
        return None
    return int(value) if np.iinfo(dtype).min <= value <= np.iinfo(dtype).max else None


def _layout(path: Path, series: tifffile.TiffPageSeries, mask: tifffile.TiffPage | None) -> Layout:
    page = series.keyframe
    if series.is_multifile or any(member is None for member in series):
        message = "is one of several files of an OME-TIFF, which belong together"
        raise unsupported(path, message, "save all of them as one TIFF (Fiji: Bio-Formats import, then Save As Tiff)")
    bits = page.tags.valueof(_BITS, 1)
    if isinstance(bits, tuple) and len(set(bits)) > 1:
        raise unsupported(
            path, f"has channels of {', '.join(map(str, bits))} bits, which are not read", "save all with 8 or 16 bits"
        )
    sizes = dict(zip(series.axes, series.shape, strict=True))
    samples = page.samplesperpixel
    on_pages = sizes.get("C", 1) if samples == 1 else 1
    channels = samples * on_pages
    others = int(np.prod([size for axis, size in sizes.items() if axis not in "YXSC"], dtype=np.int64))
    pages = others * (sizes.get("C", 1) if samples > 1 else 1)
    colours, alpha = _colours(path, page, channels, on_pages)
    nodata = _nodata(path, page)
    page.nodata = 0 if nodata is None else nodata  # tifffile fills tiles with it that were left out
    if mask is not None and pages > 1:
        raise unsupported(path, "is a stack with a mask", "save each page with its mask as a file of its own")
    height, width = sizes.get("Y", 1), sizes.get("X", 1)
    return Layout(series, page, pages, height, width, channels, colours, alpha, nodata, mask)


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
    if photometric in ("PALETTE", "SEPARATED"):
        message = f"has {channels} channels of the kind {photometric}, which are not read"
        raise unsupported(path, message, "save it as indexed, grey or RGB, without further channels")
    raise unsupported(path, f"has colours of the kind {photometric}, which is not read", "save it as grey or RGB")


def read(path: Path, page: int | None, max_pixels: int) -> Raster:
    """See ``read_raster``. Channels stored as separate pages (axis C) become channels."""
    with open_tiff(path) as layout:
        require_size(path, layout.width, layout.height, max_pixels)
        number = require_page(path, page, layout.pages)
        for part in _pages(layout, number):
            require_written(path, layout, part)
        try:
            values = _values(layout, number)
        except (NotImplementedError, KeyError, ValueError) as error:
            compression = getattr(layout.page.compression, "name", str(layout.page.compression))
            if "requires the 'imagecodecs'" in str(error) or "not supported" in str(error) or "KeyError" in repr(error):
                message = f"has the compression {compression}, which cannot be read ({error})"
                raise unsupported(path, message, "save it without compression, or with LZW or deflate") from None
            raise
        layout = _own_tags(path, layout, number)
        raster = channels_of(path, layout, values)
        if layout.mask is not None:
            raster = masked(raster, layout.mask.asarray().reshape(layout.height, layout.width) == 0)
        return upright(raster, layout.orientation)


def masked(raster: Raster, empty: NDArray[np.bool_]) -> Raster:
    """Mark pixels as having no data where ``empty``, bool (H, W), is True."""
    return replace(raster, empty=empty, transparent=empty if raster.transparent is None else raster.transparent | empty)


def is_written(page: tifffile.TiffPage | tifffile.TiffFrame) -> bool:
    """False if no tile or strip was written."""
    return any(page.databytecounts)


def require_written(path: Path, layout: Layout, page: tifffile.TiffPage | tifffile.TiffFrame) -> None:
    """Raise an error if data are missing. Decoders fill missing parts of compressed strips or tiles without a warning.

    Raises:
        DataError: No tile or strip was written and there is no no-data value, or a strip or tile is truncated.
    """
    if not is_written(page) and layout.nodata is None:
        raise FileProblem(
            "unreadable-image", path, "holds no pixels, only the description of an image", "write it again"
        )
    compression = int(layout.page.compression)
    if compression == 1:
        return
    file = layout.page.parent.filehandle
    for offset, length in zip(page.dataoffsets, page.databytecounts, strict=False):
        if offset + length > file.size:
            raise FileProblem("unreadable-image", path, "ends before its last pixel", "copy or download it again")
        if compression == JPEG and length:
            file.seek(offset)
            require_end(path, file.read(length))


def require_end(path: Path, jpeg: bytes) -> None:
    """Raise an error if a JPEG strip or tile is truncated.

    Raises:
        DataError: The end marker is missing.
    """
    if b"\xff\xd9" not in jpeg:
        raise FileProblem("unreadable-image", path, "holds a damaged JPEG without end", "copy or download it again")


def _pages(layout: Layout, number: int) -> list[tifffile.TiffPage | tifffile.TiffFrame]:
    """The pages of one image."""
    pages = [page for page in layout.series.pages if page is not None]
    return [pages[number]] if 1 < len(pages) == layout.pages else pages


def _own_tags(path: Path, layout: Layout, number: int) -> Layout:
    """The layout with the tags of one page. Orientation, palette and no-data value may differ between pages."""
    if layout.pages == 1 or len(layout.series) != layout.pages:
        return layout
    series = layout.series[number]
    if series is None:
        return layout
    page = series.aspage()
    return replace(layout, page=page, nodata=_nodata(path, page))


def _values(layout: Layout, number: int) -> NDArray[Any]:
    """One image, (height, width, channels) as stored."""
    axes = layout.series.axes
    if not any(is_written(page) for page in _pages(layout, number)):
        return np.full((layout.height, layout.width, layout.channels), layout.page.nodata, layout.page.dtype)
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
    """Separate alpha from colours. ``values`` are (height, width, channels) of the whole image or a part of it.

    Raises:
        DataError: The values are not real numbers.
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
        colours = np.asarray(layout.page.colormap).T
        palette = np.asarray(colours if colours.max() < 256 else colours >> 8, np.uint8)  # some writers give 8 bits
    lossy = getattr(layout.page.compression, "name", "") in _LOSSY
    bits = int(layout.page.bitspersample)
    largest = 2.0**bits - 1 if bits <= 8 and values.dtype.kind in "bu" else None
    return Raster(values, layout.colours, palette, transparent, nodata=layout.nodata, lossy=lossy, largest=largest)


def header(path: Path) -> Header:
    """See ``read_header``."""
    with open_tiff(path) as layout:
        turn = layout.orientation
        shape = (layout.width, layout.height) if turn in (5, 6, 7, 8) else (layout.height, layout.width)
        dtype = np.dtype(layout.page.dtype if layout.page.dtype is not None else np.uint8)
        return Header(shape, layout.channels, dtype, int(layout.page.bitspersample), layout.colours, turn)


TIFF = Format(read, header)
"""TIFF and BigTIFF."""
