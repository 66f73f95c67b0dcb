"""Reading of image and label files of any format as arrays. Anything doubtful raises a ``DataError`` that names the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, field_validator

from wss.datasets.finding import FileProblem
from wss.datasets.raster import MAX_PIXELS, Header, Raster, read_header, read_raster
from wss.datasets.value_map import remap
from wss.labels import UNLABELLED
from wss.params import LATER, Params

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".gif"),
    *(".pbm", ".pnm", ".jfif", ".jpe"),
)
"""File name endings of images, lower case, in order of preference when one image comes in several formats."""

LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".pgm", ".gif", ".jpg", ".jpeg", ".pbm", ".ppm", ".pnm", ".webp")
"""File name endings of label images, in order of preference. JPEG is listed only so that ``read_label`` can refuse it."""

PERCENTILES = (0.5, 99.5)
"""Percentiles that ``stretch: percentiles`` maps to black and white."""

_MOST_EXACT = 4_000_000
"""For floating-point images with more values than this, percentiles are computed from every n-th value."""

Ranges = tuple[tuple[float, float], ...]
"""Pairs of values that become 0 and 255: one pair for all channels, or one pair per channel."""


class PixelOptions(Params):
    """Conversion of the values of image files to 8-bit RGB. Training and prediction use the same options.

    Attributes:
        stretch: Range of values that is mapped to 0..255. ``full``: the whole range of the type (floating point: 0 to 1).
            ``percentiles``: from the 0.5th to the 99.5th percentile of each image, for RGB channels together and for chosen
            bands separately. Two numbers: from the first to the second. ``auto``: ``full`` for 8 or fewer bits and for PGM and
            PPM, whose header contains the largest value; otherwise ``percentiles``.
        bands: Channels for red, green and blue, or one channel for grey, counted from 1. Needed if a file does not have one or
            three channels.
        nodata: Value of pixels without data, in addition to the value in the file (GeoTIFF) and NaN. A pixel has no data if none
            of its channels has data.
        page: Page of TIFF stacks or frame of animations, from 0; None refuses such files.
    """

    stretch: Literal["auto", "full", "percentiles"] | tuple[float, float] = Field(
        default="auto", json_schema_extra=LATER
    )
    bands: tuple[int, ...] | None = Field(default=None, json_schema_extra=LATER)
    nodata: float | None = Field(default=None, json_schema_extra=LATER)
    page: int | None = Field(default=None, ge=0, json_schema_extra=LATER)

    @field_validator("stretch")
    @classmethod
    def _ascending(cls, value: Any) -> Any:
        if isinstance(value, tuple) and not value[0] < value[1]:
            raise ValueError("expected auto, full, percentiles, or two numbers, the smaller one first")
        return value

    @field_validator("bands")
    @classmethod
    def _one_or_three(cls, bands: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if bands is not None and (len(bands) not in (1, 3) or min(bands) < 1):
            raise ValueError("expected one band or three, counted from 1, for example [7, 3, 2]")
        return bands


class Picture(NamedTuple):
    """An image in the form that networks accept.

    Attributes:
        rgb: uint8 (H, W, 3), contiguous.
        valid: bool (H, W), False where there is no data; None if all pixels have data.
    """

    rgb: NDArray[np.uint8]
    valid: NDArray[np.bool_] | None


def read_image(path: Path, options: PixelOptions | None = None, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a photograph or scan, as ``read_picture`` but without the mask of pixels with data.

    Returns:
        uint8 (H, W, 3), RGB, contiguous.
    """
    return read_picture(path, options, max_pixels=max_pixels).rgb


def read_picture(path: Path, options: PixelOptions | None = None, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a photograph or scan: JPEG, PNG, TIFF, BMP, WebP, PGM, PPM, PBM or GIF.

    The image is rotated to upright by its EXIF or TIFF orientation. Grey is repeated over the channels, palettes and CMYK are
    converted, alpha is dropped, and values become 8 bits by ``PixelOptions.stretch``. Pixels without data are black.

    Args:
        path: The file; its content decides the format, not its name.
        options: Stretch, bands, value without data, and page; None takes the defaults.
        max_pixels: Refuse images with more pixels than this.

    Raises:
        DataError: Missing, empty, truncated, damaged, no image or one that is not read, too large, other than one or three
            channels without ``bands``, a stack without ``page``, or infinite values.
    """
    options = options or PixelOptions()
    raster = read_raster(path, page=options.page, max_pixels=max_pixels)
    return picture(raster, options, path)


def picture(raster: Raster, options: PixelOptions, path: Path, ranges: Ranges | None = None) -> Picture:
    """Convert the values of a file to 8-bit RGB, see ``read_picture``.

    Args:
        raster: Values of an image or of a part of it.
        options: Options of the conversion.
        path: File name, for errors.
        ranges: Values that become 0 and 255; None uses ``stretch_ranges`` of these values.
    """
    values = chosen_bands(raster, options, path)
    valid = data_mask(values, {raster.nodata, options.nodata}, path, raster.empty)
    if raster.colours == "palette" and options.bands is None and raster.palette is not None:
        known = np.zeros((max(256, len(raster.palette), int(values.max(initial=0)) + 1), 3), np.uint8)
        known[: len(raster.palette)] = raster.palette
        rgb = known[values.astype(np.uint8) if values.dtype == bool else values]
    else:
        rgb = to_uint8(values, ranges or stretch_ranges(values, raster, options, valid))
        if raster.colours == "cmyk":
            rgb = np.array(Image.fromarray(rgb, "CMYK").convert("RGB"))
        if raster.colours == "white-is-zero":
            rgb = 255 - rgb
        if rgb.ndim == 2:
            rgb = np.repeat(rgb[..., None], 3, axis=2)
    if valid is not None:
        rgb[~valid] = 0
    return Picture(np.ascontiguousarray(rgb), valid)


def chosen_bands(raster: Raster, options: PixelOptions, path: Path) -> NDArray[Any]:
    """The channels for red, green and blue, or grey: (H, W) or (H, W, 3). Four channels for CMYK."""
    values = raster.values
    count = 1 if values.ndim == 2 else values.shape[2]
    if options.bands is None:
        if raster.colours == "bands":
            message = f"has {count} bands of {values.dtype}, which are no colours"
            remedy = (
                "choose the one that is grey, or red, green and blue, counted from 1, for example `wss init -o 'bands=[3,2,1]'`; "
                "`wss predict` takes --set 'read.bands=[3,2,1]', the bands of training"
            )
            raise FileProblem("bands", path, message, remedy)
        return values
    if max(options.bands) > count:
        message = f"has {count} band{'s' * (count > 1)}, and the option bands names {max(options.bands)}"
        raise FileProblem("bands", path, message, "correct the option bands; they count from 1")
    if count == 1:
        return values
    chosen = values[..., [band - 1 for band in options.bands]]
    return chosen[..., 0] if len(options.bands) == 1 else chosen


def data_mask(
    values: NDArray[Any], nodata: set[float | None], path: Path, masked: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_] | None:
    """Mask of the pixels with data, bool (H, W); None if all pixels have data.

    Args:
        values: (H, W) or (H, W, C).
        nodata: Values of pixels without data; None entries are ignored.
        path: File name, for errors.
        masked: bool (H, W), True where the file's own mask marks missing data.

    Raises:
        DataError: A pixel with data has an infinite value.
    """
    empty: NDArray[np.bool_] = np.zeros(values.shape, bool)
    if values.dtype.kind == "f":
        empty = np.isnan(values)
    for value in nodata - {None}:
        assert value is not None
        if values.dtype.kind == "f":
            with np.errstate(over="ignore"):
                empty |= values == np.asarray(value, values.dtype)
        elif float(value).is_integer():
            empty |= values == int(value)
    if masked is not None:
        empty |= masked if values.ndim == 2 else masked[..., None]
    if values.dtype.kind == "f" and (np.isinf(values) & ~empty).any():
        raise FileProblem("infinite", path, "holds infinite values", "replace them by NaN or a value for nodata")
    if values.ndim == 3:
        empty = np.asarray(empty.all(-1))
    return ~empty if empty.any() else None


def stretch_ranges(
    values: NDArray[Any], raster: Raster, options: PixelOptions, valid: NDArray[np.bool_] | None = None
) -> Ranges:
    """The values that become 0 and 255 by ``PixelOptions.stretch``: one pair for all channels, or one pair per channel.

    Args:
        values: (H, W) or (H, W, C), integer or floating point; NaN only outside ``valid``.
        raster: The raster from which they were taken.
        options: Options of the conversion.
        valid: bool (H, W), pixels that are used for percentiles; None uses all.
    """
    stretch = options.stretch
    if stretch == "auto":
        stretch = "percentiles" if raster.largest is None else "full"
    if stretch == "full":
        return (raster.span or _full(values.dtype, raster.largest),)
    if stretch != "percentiles":
        return (stretch,)
    if values.ndim == 3 and raster.colours == "bands":
        return tuple(percentiles(values[..., channel], valid) for channel in range(values.shape[2]))
    return (percentiles(values, valid),)


def to_uint8(values: NDArray[Any], ranges: Ranges) -> NDArray[np.uint8]:
    """Map ranges to 0 to 255.

    Args:
        values: (H, W) or (H, W, C).
        ranges: One pair for all channels, or one for each.

    Returns:
        uint8 with the shape of ``values``. Values below or above the range are 0 or 255.
    """
    if len(ranges) == 1:
        return linear(values, *ranges[0])
    return np.stack([linear(values[..., channel], *pair) for channel, pair in enumerate(ranges)], axis=-1)


def _full(dtype: np.dtype[Any], largest: float | None) -> tuple[float, float]:
    if largest is not None:
        return 0.0, float(largest)
    if dtype.kind == "f":
        return 0.0, 1.0
    return (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)) if dtype.kind in "iu" else (0.0, 1.0)


def percentiles(values: NDArray[Any], valid: NDArray[np.bool_] | None) -> tuple[float, float]:
    """The range that ``stretch: percentiles`` maps to 0 to 255.

    So single outliers have no influence. If both percentiles are equal, because nearly all pixels are equal, the range is from
    the smallest to the largest value.

    Args:
        values: (H, W) or (H, W, C).
        valid: bool (H, W), pixels that are used; None uses all.
    """
    counted = values.ravel() if valid is None else values[valid].ravel()
    if not counted.size:
        return 0.0, 0.0
    if counted.dtype.kind == "f" and counted.size > _MOST_EXACT:
        counted = counted[:: counted.size // _MOST_EXACT + 1]
    counted = counted[~np.isnan(counted)] if counted.dtype.kind == "f" else counted
    low, high = (float(value) for value in np.percentile(counted.astype(np.float64), PERCENTILES))
    return (low, high) if low < high else (float(counted.min()), float(counted.max()))


def linear(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Map values in ``low`` .. ``high`` linearly to 0..255, and clip others. All are 0 if ``high`` is not above ``low``."""
    if values.dtype == np.uint8 and (low, high) == (0, 255):
        return np.array(values)
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    scaled = (np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low) - low) * 255 / (high - low)
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def read_label(
    path: Path,
    *,
    palette: NDArray[np.uint8] | None = None,
    on_picture: bool = False,
    ignore: Sequence[int] = (),
    values: Sequence[tuple[int, int]] = (),
    page: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """Read a label image: stored class indices, not colours. The image is rotated to upright, but never resized.

    Args:
        path: A lossless image file with one channel: indices of a palette, grey or white-is-zero of any depth, integer or
            floating point, if all values are whole numbers from 0 to 255. One bit is 0 and 1.
        palette: uint8 (K, 3); when given, RGB files are decoded through it: colours of the palette become their index,
            VOC's border colour (224, 224, 192) becomes 255. None refuses RGB files.
        on_picture: True if RGB files are painted copies of the picture: colours that are not in ``palette`` become 255.
        ignore: Stored values that become 255. Values outside 0..255 are allowed (65535, -1).
        values: Pairs of stored value and class index, see ``ValueMap``; they win over ``ignore``. For RGB files, the stored value
            is the decoded index.
        page: Page of a stack, from 0; None refuses stacks. Ignored for files with one image.
        max_pixels: Refuse images with more pixels than this.

    Returns:
        uint8 (H, W). Transparent pixels, and those without data by GeoTIFF's tag, are 255.

    Raises:
        DataError: Missing, damaged, too large, an RGB rendering (or a colour that is not in ``palette``), other values, or a
            lossy format.
    """
    try:
        raster = read_raster(path, max_pixels=max_pixels, code="unreadable-label")
    except FileProblem as problem:
        if problem.code != "stack" or page is None:
            raise
        raster = read_raster(path, page=page, max_pixels=max_pixels, code="unreadable-label")
    if raster.lossy:
        raise FileProblem(
            "lossy-label",
            path,
            "labels saved as JPEG or WebP, whose compression changes class indices",
            "export them again as PNG from where they were drawn: a JPEG that is only saved as PNG keeps its wrong values",
        )
    if raster.palette is not None and _renumbered(path, raster.values, raster.palette):
        message = "a GIF with a grey palette, which does not tell whether its indices or its greys are labels"
        raise FileProblem("grey-gif", path, f"{message}: GIF writers renumber the colours", "save the labels as PNG")
    stored, unlabelled = raster.values, raster.transparent
    if raster.colours == "rgb" and stored.dtype == np.uint8:
        if palette is None:
            raise FileProblem(
                "rgb-label",
                path,
                "expected class indices, got an RGB rendering of the palette",
                "save the labels as indexed or 8-bit grey PNG, or set the option rgb_labels to decode the colours",
            )
        stored = _decode(stored, palette, raster.transparent, path, on_picture)
    if stored.ndim != 2:
        raise FileProblem(
            "rgb-label",
            path,
            f"expected class indices, got {stored.shape[2]} channels of {stored.dtype} ({raster.colours})",
            "save the labels as indexed or 8-bit grey PNG",
        )
    if raster.nodata is not None:
        empty = np.isnan(stored) if np.isnan(raster.nodata) else stored == raster.nodata
        unlabelled = empty if unlabelled is None else unlabelled | empty
    stored = remap(stored, ignore, values)
    if unlabelled is not None:
        stored = np.where(unlabelled, np.asarray(UNLABELLED, np.result_type(stored, np.uint8)), stored)
    return _whole(stored, path)


def _renumbered(path: Path, indices: NDArray[Any], palette: NDArray[np.uint8]) -> bool:
    """True for a GIF with a grey palette whose indices differ from the grey values."""
    with path.open("rb") as file:
        if file.read(4) != b"GIF8":
            return False
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=1)[: len(palette)])
    colours = palette[used].astype(int)
    return bool((colours == colours[:, :1]).all() and (colours[:, 0] != used).any())


def _whole(values: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    """Convert values of any type to labels.

    Raises:
        DataError: A value is not an integer from 0 to 255.
    """
    if values.dtype.kind == "f":
        wrong = values[~(np.floor(values) == values)]
        if wrong.size:
            raise FileProblem(
                "label-range",
                path,
                f"expected whole numbers, got {wrong[0]} in a floating-point file",
                "save class indices, without interpolation between them",
            )
    if values.size and (values.min() < 0 or values.max() > UNLABELLED):
        raise FileProblem(
            "label-range",
            path,
            f"expected labels from 0 to 255, got {values.min():g} to {values.max():g}",
            "renumber the classes from 0, and use 255 for unlabelled pixels or name the value in the option ignore",
        )
    return values.astype(np.uint8)


def _decode(
    colours: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    transparent: NDArray[np.bool_] | None,
    path: Path,
    on_picture: bool,
) -> NDArray[np.uint8]:
    weights = np.array([65536, 256, 1])
    codes = colours.astype(np.int64) @ weights
    known = palette.astype(np.int64) @ weights
    border = np.array([224, 224, 192]) @ weights
    labels = np.full(codes.shape, UNLABELLED, np.uint8)
    decoded = codes == border
    for index in reversed(range(len(known))):  # of two equal colours the lower index wins
        match = codes == known[index]
        labels[match] = index
        decoded |= match
    if transparent is not None:
        labels[transparent] = UNLABELLED
        decoded |= transparent
    if not decoded.all() and not on_picture:
        y, x = np.argwhere(~decoded)[0]
        raise FileProblem(
            "rgb-label",
            path,
            f"colour {tuple(int(v) for v in colours[y, x])} at x={x}, y={y} is none of the {len(palette)} of the palette",
            "add the palette to the class list, or save class indices instead of colours; scribbles that were painted on a copy "
            "of the picture are read with painted_on_images: true",
        )
    return labels


__all__ = [
    "IMAGE_SUFFIXES",
    "LABEL_SUFFIXES",
    "MAX_PIXELS",
    "Header",
    "Picture",
    "PixelOptions",
    "read_header",
    "read_image",
    "read_label",
    "read_picture",
]
