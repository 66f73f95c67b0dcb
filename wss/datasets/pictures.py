"""Reading of the stored values of PNG, JPEG, BMP, WebP and GIF files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from wss.datasets.finding import FileProblem
from wss.datasets.lossy import is_lossy_webp, refuse_jpeg, require_jpeg_end
from wss.datasets.raster import Colours, Format, Header, Raster, require_page, require_size, unsupported, upright

_FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        BmpImagePlugin.BmpImageFile,
        WebPImagePlugin.WebPImageFile,
        GifImagePlugin.GifImageFile,
    )
)
"""Decoders that Pillow may use. Some others start programs or follow links."""

_ORIENTATION = 0x0112
_COLOURS: dict[str, Colours] = {
    "P": "palette",
    "PA": "palette",
    "RGB": "rgb",
    "RGBA": "rgb",
    "RGBX": "rgb",
    "CMYK": "cmyk",
}
_MULTIPLIED = {2: 85, 4: 17}
"""Factors by which Pillow multiplies grey values of 2 and 4 bits, so that the largest becomes 255."""


def read(path: Path, page: int | None, max_pixels: int) -> Raster:
    """See ``read_raster``. If a JPEG has several pictures (as from phones), the first one is read."""
    with _decoding(path), _open(path) as image:
        require_size(path, image.width, image.height, max_pixels)
        jpeg = image.format in ("JPEG", "MPO")
        frames = 1 if jpeg else getattr(image, "n_frames", 1)
        number = require_page(path, page, frames, "frames")
        bits = _bits(path)
        if bits == 16 and frames > 1:
            raise unsupported(path, "an animation of 16 bits, which is not read", "save the frame as a PNG of its own")
        image.seek(number)
        if jpeg:
            require_jpeg_end(path)
        if bits == 16 and image.mode != "I;16":  # Pillow would keep only 8 bits
            raster = _deep_png(path, image)
        elif image.format == "BMP" and image.mode in ("1", "L"):
            raster = _grey_bmp(path, image)
        else:
            image.load()
            raster = _raster(path, image, bits)
        lossy = jpeg or (image.format == "WEBP" and is_lossy_webp(path.read_bytes()))
        largest = 1.0 if image.mode == "1" else 2.0**bits - 1 if bits <= 8 else None
        return upright(replace(raster, lossy=lossy, largest=largest), _turn(image))


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Convert Pillow's exceptions to errors that distinguish unsupported files from damaged ones."""
    try:
        yield
    except (OSError, ValueError) as error:
        if "nsupported" in str(error):
            raise unsupported(path, f"cannot be read ({error})", "save it as PNG") from None
        if _compressed_bmp(path):
            remedy = "copy or download it again, or save it as PNG: skipped pixels of compressed BMP files are not read"
            raise FileProblem("unreadable-image", path, f"cannot be read ({error})", remedy) from None
        raise


def header(path: Path) -> Header:
    """See ``read_header``."""
    with _decoding(path), _open(path) as image:
        bits = _bits(path)
        dtype = np.dtype(bool if image.mode == "1" else np.uint16 if bits == 16 else np.uint8)
        turn = _turn(image)
        shape = (image.width, image.height) if turn in (5, 6, 7, 8) else (image.height, image.width)
        channels = len(image.getbands())
        return Header(shape, channels, dtype, 1 if image.mode == "1" else bits, _COLOURS.get(image.mode, "grey"), turn)


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=_FORMATS)
    except UnidentifiedImageError:
        refuse_jpeg(path)
        raise FileProblem(
            "unreadable-image", path, "not an image, or its beginning is damaged", "copy or download it again"
        ) from None
    except Image.DecompressionBombError as error:
        raise FileProblem("too-large", path, str(error), "scale it down or cut it into tiles") from None


def _turn(image: Image.Image) -> int:
    code = image.getexif().get(_ORIENTATION, 1)
    return int(code) if code in range(1, 9) else 1


def _bmp_depth(begin: bytes) -> int:
    """Bits per pixel of a BMP file. The oldest kind of header is 12 bytes long."""
    place = 24 if begin[14] == 12 else 28
    return int.from_bytes(begin[place : place + 2], "little")


def _compressed_bmp(path: Path) -> bool:
    with path.open("rb") as file:
        begin = file.read(34)
    return begin[:2] == b"BM" and begin[14:15] > b"\x0c" and begin[30:34] in (b"\1\0\0\0", b"\2\0\0\0")


def _grey_bmp(path: Path, image: Image.Image) -> Raster:
    """A BMP whose palette is grey.

    Pillow derives the bit depth from the number of colours, and reads black and white with 4 or 8 bits as one bit. To avoid this,
    such a file is read with a changed first colour.
    """
    data = path.read_bytes()
    bits = _bmp_depth(data)
    if bits == (1 if image.mode == "1" else 8):
        image.load()
        return _raster(path, image, bits)
    place = 14 + int.from_bytes(data[14:18], "little")
    with Image.open(BytesIO(data[:place] + b"\1\2\3" + data[place + 3 :]), formats=("BMP",)) as indexed:
        raster = _raster(path, indexed, bits)
    assert raster.palette is not None
    raster.palette[0] = list(data[place : place + 3])[::-1]
    return raster


def _bits(path: Path) -> int:
    """Bits per value. Only PNG files can have other than 8."""
    with path.open("rb") as file:
        begin = file.read(26)
    return begin[24] if begin[:4] == b"\x89PNG" else 8


def _raster(path: Path, image: Image.Image, bits: int) -> Raster:
    clear = image.info.get("transparency")
    if image.mode in ("P", "PA"):
        colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        values: NDArray[Any] = np.asarray(image)
        if image.mode == "PA":
            return Raster(values[..., 0], "palette", colours, values[..., 1] == 0)
        return Raster(values.copy(), "palette", colours, _transparent_indices(values, clear))
    if image.mode in ("1", "L", "I;16"):
        values = np.array(image)
        if bits in _MULTIPLIED and image.mode == "L":
            values = values // _MULTIPLIED[bits]
        clear = clear > 0 if image.mode == "1" and clear is not None else clear  # Pillow uses 255 for the bit 1
        return Raster(values, "grey", None, values == clear if isinstance(clear, int) else None)
    if image.mode == "LA":
        values = np.array(image)
        if bits in _MULTIPLIED:
            values = values // _MULTIPLIED[bits]
        return Raster(values[..., 0].copy(), "grey", None, values[..., 1] == 0)
    if image.mode == "RGBA":
        values = np.array(image)
        return Raster(values[..., :3].copy(), "rgb", None, values[..., 3] == 0)
    if image.mode in ("RGB", "CMYK"):
        values = np.array(image)
        return Raster(
            values, _COLOURS[image.mode], None, (values == clear).all(-1) if isinstance(clear, tuple) else None
        )
    if image.mode == "RGBX":
        return Raster(np.array(image)[..., :3].copy(), "rgb")
    raise unsupported(path, f"an image of the mode {image.mode}, which is not read", "save it as grey or RGB")


def _transparent_indices(values: NDArray[Any], clear: Any) -> NDArray[np.bool_] | None:
    """Pixels whose index is fully transparent. PNG has one alpha value per index, GIF has one transparent index."""
    if isinstance(clear, bytes):
        alpha = np.full(256, 255, np.uint8)
        alpha[: len(clear)] = np.frombuffer(clear, np.uint8)[:256]
        return np.asarray(alpha[values] == 0)
    return np.asarray(values == clear) if isinstance(clear, int) else None


def _deep_png(path: Path, image: Image.Image) -> Raster:
    """A PNG of 16 bits with several channels."""
    values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        raise FileProblem("unreadable-image", path, "cannot be decoded", "copy or download it again")
    transparent = values[..., 3] == 0 if values.shape[2] == 4 else None
    if path.read_bytes()[25] in (0, 4):  # grey; OpenCV repeats the value over the channels
        return Raster(values[..., 0].copy(), "grey", None, transparent)
    return Raster(values[..., 2::-1].copy(), "rgb", None, transparent)


PICTURES = Format(read, header)
"""PNG, JPEG, BMP, WebP and GIF."""
