"""Reading of the stored values of image files, for images and labels. Values are neither scaled nor guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem

MAX_PIXELS = 80_000_000
"""Larger images are refused before decoding, because even a small file can need more memory than is available."""

Colours = Literal["grey", "white-is-zero", "rgb", "cmyk", "palette", "bands"]
"""Meaning of the channels. ``white-is-zero``: grey whose smallest value is white. ``bands``: channels that are not colours."""

_MAGIC = (
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "Photoshop"),
    (b"\x89HDF", "HDF5"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"\x93NUMPY", "NumPy"),
    (b"\x5c\x01\x00\x00", "NIfTI"),
    (b"\x00\x00\x01\x5c", "NIfTI"),
    (b"NRRD", "NRRD"),
    (b"%PDF", "PDF"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML"),
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "ZIP"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"P7", "PAM"),
    (b"PF", "PFM"),
    (b"Pf", "PFM"),
    (b"%!PS", "PostScript"),
    (b"DDS ", "DirectDraw"),
    (b"qoif", "QOI"),
    (b"\0\0\1\0", "icon"),
    (b"SIMPLE  =", "FITS"),
    (b"MATLAB 5", "MATLAB"),
)


@dataclass(frozen=True)
class Raster:
    """One image as stored in its file.

    Attributes:
        values: (H, W) or (H, W, C), with the dtype and the values of the file. One bit is bool, 2 and 4 bits are uint8.
            Rotated to upright by the file's orientation. Without alpha.
        colours: Meaning of the channels.
        palette: uint8 (N, 3), the colours of indices, or None.
        transparent: bool (H, W), True where alpha is 0, the pixel has the transparent colour, or ``empty`` is True. None if the
            file has no transparency.
        empty: bool (H, W), True where the file's own mask marks missing data; None if the file has no mask.
        nodata: Value of pixels without data, from the file; may be NaN. None if the file has no such value.
        lossy: True if the compression changes values.
        largest: Value of white or full strength, if known: from 8 or fewer bits, or from PGM's largest value. None if values may
            be any measurement.
        span: Smallest and largest value that the stored bits can represent; None for the range of the array's dtype.
    """

    values: NDArray[Any]
    colours: Colours
    palette: NDArray[np.uint8] | None = None
    transparent: NDArray[np.bool_] | None = None
    empty: NDArray[np.bool_] | None = None
    nodata: float | None = None
    lossy: bool = False
    largest: float | None = None
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class Header:
    """Properties of an image that are known without decoding it.

    Attributes:
        shape: Height and width, upright.
        channels: Number of channels, including alpha.
        dtype: Type of the values; one bit is bool.
        bits: Bits per value.
        colours: Meaning of the channels.
        orientation: 1 to 8 as in EXIF and TIFF; 1 is upright.
    """

    shape: tuple[int, int]
    channels: int
    dtype: np.dtype[Any]
    bits: int
    colours: Colours
    orientation: int

    @property
    def rotated(self) -> bool:
        """True if the orientation rotates the image by 90 degrees, so that height and width are swapped."""
        return self.orientation in (5, 6, 7, 8)


def read_raster(
    path: Path, *, page: int | None = None, max_pixels: int = MAX_PIXELS, code: str = "unreadable-image"
) -> Raster:
    """Read the values of an image file as they are stored: PNG, JPEG, TIFF, BMP, WebP, GIF, PBM, PGM or PPM.

    Args:
        path: The file; its content decides the format, not its name.
        page: Page of a stack, from 0; None refuses files with several pages.
        max_pixels: Refuse images with more pixels than this.
        code: Code of the error for files that cannot be read.

    Raises:
        DataError: Missing, empty, damaged, too large, no image, a format that is not read, or a stack without ``page``.
    """
    with opened(path, code) as begin:
        return _format(path, begin).read(path, page, max_pixels)


def read_header(path: Path) -> Header:
    """Read the properties of an image file without decoding it. For a stack, those of its first page.

    Raises:
        DataError: Missing, empty, damaged, or not an image.
    """
    with opened(path, "unreadable-image") as begin:
        return _format(path, begin).header(path)


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        read: Reads a page. Arguments: the path, the page or None, and the maximum number of pixels.
        header: Reads the header.
    """

    read: Callable[[Path, int | None, int], Raster]
    header: Callable[[Path], Header]


@contextmanager
def opened(path: Path, code: str) -> Iterator[bytes]:
    """Yield the first bytes of a file. Any exception inside the block becomes a ``FileProblem`` with this code."""
    try:
        if path.stat().st_size == 0:
            raise FileProblem(code, path, "the file is empty", "copy or download it again")
        if path.is_dir():
            raise FileProblem(code, path, "is a folder, not a file", "rename it, or give the files in it")
        with path.open("rb") as file:
            begin = file.read(132)
        yield begin
    except FileProblem:
        raise
    except FileNotFoundError:
        raise FileProblem("missing-file", path, "no such file", "restore it or take it out of the list") from None
    except MemoryError:
        raise FileProblem("too-large", path, "does not fit in memory", "scale it down or cut it into tiles") from None
    except Exception as error:  # decoders raise many kinds of exceptions for damaged input: OSError, SyntaxError, ...
        raise FileProblem(code, path, f"cannot be read ({error})", "copy or download it again") from error


def _format(path: Path, begin: bytes) -> Format:
    from wss.datasets.pictures import PICTURES
    from wss.datasets.pnm import PNM
    from wss.datasets.tiff import TIFF

    if begin[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return TIFF
    if begin[:1] == b"P" and begin[1:2] in b"123456" and begin[2:3].isspace():
        return PNM
    known = begin[:8] == b"\x89PNG\r\n\x1a\n" or begin[:3] == b"\xff\xd8\xff" or begin[:2] == b"BM"
    if known or begin[:4] == b"GIF8" or (begin[:4] == b"RIFF" and begin[8:12] == b"WEBP"):
        return PICTURES
    named = next((name for magic, name in _MAGIC if begin.startswith(magic)), None)
    if begin[4:8] == b"ftyp":
        kinds = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"msf1": "HEIF", b"avif": "AVIF", b"avis": "AVIF"}
        named = kinds.get(begin[8:12], "video")
    named = "DICOM" if begin[128:132] == b"DICM" else named
    if named is not None:
        if named in ("NIfTI", "NRRD"):
            remedy = "save volumes as NAME.nii.gz, which kind nifti and `wss predict` read, and pictures as PNG or TIFF"
            raise unsupported(path, f"the format is {named}, which is not read as a picture", remedy)
        raise unsupported(path, f"the format is {named}, which is not read", "save it as PNG or TIFF")
    if begin.startswith(b"version https://git-lfs"):
        message = "only stands for a file that is kept in Git LFS"
        raise FileProblem("unreadable-image", path, message, "fetch it (`git lfs pull`)")
    if begin.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        message = "a web page, no image: its download has failed"
        raise FileProblem("unreadable-image", path, message, "download it again, and look at it in a browser")
    raise FileProblem(
        "unreadable-image", path, "not an image, or its beginning is damaged", "copy or download it again"
    )


def unsupported(path: Path, message: str, remedy: str) -> FileProblem:
    """Error for a valid file of an unsupported kind."""
    return FileProblem("unsupported-image", path, message, remedy)


def stack(path: Path, count: int, what: str = "pages") -> FileProblem:
    """Error for a file with several images."""
    return FileProblem(
        "stack",
        path,
        f"holds {count} {what}, and one image is expected",
        f"choose one of 0 to {count - 1} with the option page (`wss init -o page=0`, or for one image --set read.page=0), or "
        f"save {what} as files of their own",
    )


def require_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Check that an image does not have more pixels than allowed.

    Raises:
        DataError: The image has more pixels.
    """
    if width * height > max_pixels:
        message = f"{width}x{height} pixels, more than the limit of {max_pixels}"
        raise FileProblem(
            "too-large", path, message, "scale it down, or save it as a tiled TIFF, which is read by parts"
        )


def require_page(path: Path, page: int | None, count: int, what: str = "pages") -> int:
    """The page to read, from 0.

    Raises:
        DataError: There are several pages and none was chosen, or the chosen page does not exist.
    """
    if page is None and count > 1:
        raise stack(path, count, what)
    if page is not None and not 0 <= page < count:
        raise FileProblem(
            "stack", path, f"has no page {page}: its {count} {what} count from 0", "correct the option page"
        )
    return page or 0


def upright(raster: Raster, orientation: int) -> Raster:
    """Rotate an image to upright by its EXIF or TIFF orientation."""
    if orientation == 1:
        return raster
    transparent, empty = raster.transparent, raster.empty
    return replace(
        raster,
        values=turned(raster.values, orientation),
        transparent=None if transparent is None else turned(transparent, orientation),
        empty=None if empty is None else turned(empty, orientation),
    )


def turned(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rotate and mirror an array (H, W, ...) with an EXIF orientation from 1 to 8 to upright."""
    if orientation >= 5:  # rows are stored as columns
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):  # the first column is on the right
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):  # the first row is at the bottom
        values = values[::-1]
    return np.ascontiguousarray(values)
