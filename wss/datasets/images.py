"""Image and label files as arrays, whatever their format; anything doubtful is a ``DataError`` that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from wss.datasets.finding import FileProblem

MAX_PIXELS = 80_000_000
"""Larger images are refused before they are decoded: a small file can unpack to more memory than there is."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".gif")
"""File name endings of images, lower case, in order of preference when one image comes in several formats."""

LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".pgm", ".gif", ".jpg", ".jpeg")
"""File name endings of label images, in order of preference; JPEG is found only to be refused by ``read_label``."""

_FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        TiffImagePlugin.TiffImageFile,
        BmpImagePlugin.BmpImageFile,
        WebPImagePlugin.WebPImageFile,
        PpmImagePlugin.PpmImageFile,
        GifImagePlugin.GifImageFile,
    )
)
"""Pillow tries no other decoder; some of those start programs or follow links."""
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION = 0x0112


class Header(NamedTuple):
    """What a file says about its image before it is decoded.

    Attributes:
        shape: Height and width as displayed, that is after EXIF orientation.
        mode: Pillow's mode, for example ``RGB``, ``P``, ``L`` or ``I;16``.
        rotated: Whether EXIF orientation turns it by 90 degrees, so that stored and displayed shape differ.
    """

    shape: tuple[int, int]
    mode: str
    rotated: bool


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a photograph or scan in any format: JPEG, PNG, TIFF, BMP, WebP, PPM or GIF (first frame).

    EXIF orientation is applied, grey is repeated over the channels, palettes and CMYK are converted, alpha is dropped.
    Grey images of 16 or 32 bits and of floating point are brought to 8 bits by ``to_uint8``, that is from their own
    minimum and maximum (scanners use 10 to 14 of 16 bits); RGB images of 16 bits keep their upper 8.

    Args:
        path: The file; its content decides the format, not its name.
        max_pixels: Refuse images with more pixels than this.

    Returns:
        uint8 (H, W, 3), RGB, contiguous.

    Raises:
        DataError: Missing, empty, truncated, damaged, not an image, or too large.
    """
    with _opened(path, max_pixels) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _DEEP:
            values: NDArray[Any] = np.asarray(upright)
            if not np.isfinite(values).all():
                raise FileProblem(
                    "unreadable-image", path, "holds values that are not finite", "replace them and save it again"
                )
            return np.repeat(to_uint8(values)[..., None], 3, axis=2)
        return np.array(upright.convert("RGB"))


def to_uint8(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Bring measurements to 8 bits: 0..1 floats by 255, anything else linearly from its own minimum and maximum.

    Args:
        values: Any shape, integer or floating point, finite. A constant image outside 0..1 becomes 0.

    Returns:
        uint8, the shape of ``values``.
    """
    if values.size == 0:
        return np.zeros(values.shape, np.uint8)
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scale = 255 / (high - low) if high > low else 0.0
    return np.rint((values.astype(np.float64) - low) * scale).astype(np.uint8)


def read_label(
    path: Path, *, palette: NDArray[np.uint8] | None = None, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Read a label image: class indices, not colours. It is never resized, rotated or converted through a palette.

    Args:
        path: A lossless image file: indexed (mode P, the indices are kept), grey with 8 bits, or grey with 16 or 32 bits
            whose values stay below 256.
        palette: uint8 (K, 3); when given, RGB files are decoded through it: colours of the palette become their index,
            VOC's border colour (224, 224, 192) becomes 255. None refuses RGB files.
        max_pixels: Refuse images with more pixels than this.

    Returns:
        uint8 (H, W).

    Raises:
        DataError: Missing, damaged, too large, an RGB rendering (or a colour that is not in ``palette``), values above 255,
            or a lossy format.
    """
    with _opened(path, max_pixels, "unreadable-label") as image:
        if image.format in ("JPEG", "MPO"):
            raise FileProblem(
                "lossy-label",
                path,
                "labels saved as JPEG, whose compression changes class indices",
                "export them again as PNG",
            )
        mode = image.mode
        if mode in ("P", "L"):
            return np.array(image)
        if mode == "1":
            return np.array(image).astype(np.uint8)
        if mode in ("RGB", "RGBA"):
            colours = np.array(image.convert("RGB"))
            if palette is None:
                raise FileProblem(
                    "rgb-label",
                    path,
                    f"expected class indices, got a {mode} rendering of the palette",
                    "save the labels as indexed or 8-bit grey PNG, or set the option rgb_labels to decode the colours",
                )
            return _decode(colours, palette, path)
        if mode in _DEEP and mode != "F":
            deep: NDArray[Any] = np.asarray(image)
            if deep.size and (deep.min() < 0 or deep.max() > 255):
                raise FileProblem(
                    "label-range",
                    path,
                    f"expected labels from 0 to 255, got {deep.min()} to {deep.max()} in a 16 or 32-bit file",
                    "renumber the classes from 0 and use 255 for unlabelled pixels",
                )
            return deep.astype(np.uint8)
        raise FileProblem(
            "rgb-label",
            path,
            f"expected class indices, got an image of mode {mode}",
            "save the labels as indexed or 8-bit grey PNG",
        )


def read_header(path: Path) -> Header:
    """Shape and mode of an image file, without decoding it.

    Raises:
        DataError: Missing, empty, damaged or not an image.
    """
    with _opened(path, None) as image:
        rotated = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        width, height = image.size
        return Header((width, height) if rotated else (height, width), image.mode, rotated)


def _decode(colours: NDArray[np.uint8], palette: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    weights = np.array([65536, 256, 1])
    codes = colours.astype(np.int64) @ weights
    known = palette.astype(np.int64) @ weights
    border = np.array([224, 224, 192]) @ weights
    labels = np.full(codes.shape, 255, np.uint8)
    decoded = codes == border
    for index in reversed(range(len(known))):  # of two equal colours the lower index wins
        match = codes == known[index]
        labels[match] = index
        decoded |= match
    if not decoded.all():
        y, x = np.argwhere(~decoded)[0]
        raise FileProblem(
            "rgb-label",
            path,
            f"colour {tuple(int(v) for v in colours[y, x])} at x={x}, y={y} is none of the {len(palette)} of the palette",
            "add the palette to the class list, or save class indices instead of colours",
        )
    return labels


@contextmanager
def _opened(path: Path, max_pixels: int | None, code: str = "unreadable-image") -> Iterator[Image.Image]:
    """Open and, unless ``max_pixels`` is None, load an image file; map everything that can go wrong to ``FileProblem``."""
    try:
        if path.stat().st_size == 0:
            raise FileProblem(code, path, "the file is empty", "copy or download it again")
        with Image.open(path, formats=_FORMATS) as image:
            if max_pixels is not None:
                if image.width * image.height > max_pixels:
                    raise FileProblem(
                        "too-large",
                        path,
                        f"{image.width}x{image.height} pixels, more than the limit of {max_pixels}",
                        "scale it down or cut it into tiles",
                    )
                image.load()
            yield image
    except FileProblem:
        raise
    except FileNotFoundError:
        raise FileProblem("missing-file", path, "no such file", "restore it or take it out of the list") from None
    except UnidentifiedImageError:
        raise FileProblem(
            code, path, "not an image, or its beginning is damaged", "copy or download it again"
        ) from None
    except Image.DecompressionBombError as error:
        raise FileProblem("too-large", path, str(error), "scale it down or cut it into tiles") from None
    except Exception as error:  # decoders raise anything on damaged input: OSError, SyntaxError, struct.error, ...
        raise FileProblem(code, path, f"cannot be read ({error})", "copy or download it again") from error
