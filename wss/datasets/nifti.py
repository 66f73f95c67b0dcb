"""NIfTI files, one or two, plain or compressed with gzip."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem, Finding
from wss.datasets.raster import MAX_PIXELS, Raster, opened, require_size, unsupported
from wss.datasets.volume_file import Grid, VolumeFile, kept_array, package, require_channel

_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_GZIP = b"\x1f\x8b"
_PART = 2**24
_SAVE = "save real numbers"


class NiftiVolume(VolumeFile):
    """A NIfTI file. The axes are those of the array in the file, as in nibabel. Nothing is rotated or mirrored.

    Args:
        path: The file.
        channel: Index of the volume in a file with four dimensions, from 0.
        slices_first: Use the axes in reverse order.

    Attributes:
        header: nibabel's header.

    Raises:
        DataError: Missing, damaged, not NIfTI, with values that are no numbers, or several volumes without ``channel``.
        UsageError: nibabel is not installed.
    """

    def __init__(self, path: Path, channel: int | None = None, *, slices_first: bool = False) -> None:
        self.path, self.files = path, (path,)
        self.slices_first = slices_first
        package("nibabel")
        with opened(path, "unreadable-image") as begin:
            self._packed = begin.startswith(_GZIP)
            with self._stream() as stream:
                self.header = _header(path, stream)
            self._shape, self._channel = self._dimensions(channel)
            self._dtype = self._type()
            self._slope, self._inter = self._scale()
        self._scaled = (self._slope, self._inter) != (1.0, 0.0)
        self.grid = self._grid()
        if self._scaled or self._dtype != np.uint8:
            scaling = f", times {self._slope:g} plus {self._inter:g}" if self._scaled else ""
            self.values = f"{self._dtype.newbyteorder('=')} values{scaling}"
        self.remarks = self._doubts()

    def raster(self, axis: int, number: int) -> Raster:
        """See ``VolumeFile.raster``. Values have the file's type, or float64 if the file scales them."""
        if self.slices_first:
            axis = 2 - axis
        with opened(self.path, "unreadable-image"):
            rows, columns = (size for other, size in enumerate(self._shape) if other != axis)
            require_size(self.path, columns, rows, MAX_PIXELS)
            stored = kept_array(self.path, self._channel, self._load)
            index: list[slice | int] = [slice(None)] * 3
            index[axis] = number
            values = np.array(stored[tuple(index)], self._dtype.newbyteorder("="))
        span = None
        if self._scaled:
            values = values.astype(np.float64) * self._slope + self._inter
            span = self._span()
        values = np.ascontiguousarray(values.T if self.slices_first else values)
        whole_range = 255.0 if values.dtype == np.uint8 else None
        return Raster(values, "grey", largest=whole_range, span=span)

    def _span(self) -> tuple[float, float] | None:
        """Range of values that scaled integers can represent."""
        if self._dtype.kind == "f":
            return None
        limits = np.iinfo(self._dtype)
        ends = sorted(float(limit) * self._slope + self._inter for limit in (limits.min, limits.max))
        return ends[0], ends[1]

    def _dimensions(self, channel: int | None) -> tuple[tuple[int, int, int], int]:
        """Sizes of the three axes, and index of the volume."""
        shape = [int(size) for size in self.header.get_data_shape()]
        if len(shape) < 2 or min(shape) < 1:
            raise unsupported(self.path, f"has the dimensions {shape}, which is no image", "save a volume")
        others = [size for size in shape[3:] if size > 1]
        if len(others) > 1:
            message = f"has {len(shape)} dimensions ({'x'.join(map(str, shape))}), and at most four are read"
            raise unsupported(self.path, message, "save one volume, or a fourth axis of channels or times")
        what = f"{'x'.join(map(str, shape))}: the fourth axis is channels or times"
        number = require_channel(self.path, channel, others[0] if others else 1, what)
        axes = (*shape[:3], 1)[:3]
        return (axes[0], axes[1], axes[2]), number

    def _type(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self.header.get_data_dtype())
        if dtype.fields is not None or dtype.kind not in "iuf":
            what = "colours" if dtype.fields is not None else f"values of the type {dtype}"
            raise unsupported(self.path, f"holds {what}, which are not read from NIfTI", _SAVE)
        return dtype

    def _scale(self) -> tuple[float, float]:
        try:
            slope, inter = self.header.get_slope_inter()
        except package("nibabel").spatialimages.HeaderDataError as error:
            message = f"says no scale of its values ({error})"
            raise unsupported(self.path, message, "correct scl_slope and scl_inter of its header") from None
        return 1.0 if slope is None else float(slope), 0.0 if inter is None else float(inter)

    def _grid(self) -> Grid:
        factor = _MILLIMETRES.get(self.header.get_xyzt_units()[0], 1.0)
        zooms = [float(str(zoom)) for zoom in (*self.header.get_zooms()[:3], 1.0)][:3]  # 1.2, not 1.2000000477
        known = all(np.isfinite(zoom) and zoom > 0 for zoom in zooms)
        spacing = (zooms[0] * factor, zooms[1] * factor, zooms[2] * factor) if known else None
        affine = None
        if self.header["sform_code"] > 0 or self.header["qform_code"] > 0:
            matrix = np.array(self.header.get_best_affine(), np.float64)
            matrix[:3] *= factor
            if self.slices_first:
                matrix = matrix[:, [2, 1, 0, 3]]
            affine = tuple(tuple(float(value) for value in row) for row in matrix)
        shape = self._shape
        if self.slices_first:
            return Grid((shape[2], shape[1], shape[0]), spacing and (spacing[2], spacing[1], spacing[0]), affine)
        return Grid(shape, spacing, affine)

    def _doubts(self) -> tuple[Finding, ...]:
        spacing, affine = self.grid.spacing_mm, self.grid.affine
        if spacing is None or affine is None:
            return ()
        other = np.linalg.norm(np.array(affine)[:3, :3], axis=0)
        if np.allclose(other, spacing, rtol=0.01, atol=1e-6):
            return ()
        message = (
            f"voxels are {_sizes(spacing)} mm by pixdim (used) and {_sizes(tuple(other.tolist()))} mm by the affine"
        )
        remedy = "correct the header, or give the spacing with the option spacing_mm"
        return (Finding("warning", "volume-spacing", None, self.path, message, remedy),)

    def _stream(self) -> BinaryIO:
        return cast(BinaryIO, gzip.open(self.path) if self._packed else self.path.open("rb"))

    def _load(self) -> NDArray[Any]:
        """The stored values (X, Y, Z): memory-mapped from a plain file, or unpacked and checked if the file is compressed."""
        count = int(np.prod(self._shape, dtype=np.int64))
        size = count * self._dtype.itemsize
        start = int(self.header.get_data_offset()) + self._channel * size
        if not self._packed:
            length = self.path.stat().st_size
            if length < start + size:
                raise self._short(length - start, size)
            return np.memmap(self.path, self._dtype, "r", start, self._shape, order="F")
        values = np.empty(count, self._dtype)
        target = memoryview(cast(Any, values.view(np.uint8)))
        with self._stream() as stream:
            stream.seek(start)
            done = 0
            while done < size:
                got = cast(Any, stream).readinto(target[done : done + _PART])
                if not got:
                    raise self._short(done, size)
                done += got
            while stream.read(_PART):
                pass  # gzip's checksum is at its end
        return values.reshape(self._shape, order="F")

    def _short(self, done: int, size: int) -> FileProblem:
        message = f"ends after {max(0, done)} of {size} bytes of values"
        return FileProblem("unreadable-image", self.path, message, "copy or download it again")


def _header(path: Path, stream: BinaryIO) -> Any:
    nibabel = package("nibabel")
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # problems become one error instead of log messages
    begin = stream.read(348)
    stream.seek(0)
    sizes = {int.from_bytes(begin[:4], "little"), int.from_bytes(begin[:4], "big")}
    if len(begin) < 348 or not sizes & {348, 540}:
        raise FileProblem("unreadable-image", path, "is no NIfTI file", "copy or download it again")
    two = 540 in sizes
    magic = begin[4:8] if two else begin[344:348]
    if magic[:2] == b"ni" or magic[:1] == b"\0":
        message = "is the header of a pair of files (.hdr and .img), which is not read"
        raise unsupported(path, message, "save it as one NIfTI file (nibabel.save(image, 'name.nii.gz'))")
    try:
        return (nibabel.Nifti2Header if two else nibabel.Nifti1Header).from_fileobj(stream)
    except nibabel.spatialimages.HeaderDataError as error:
        if "data code" not in str(error):
            raise
        raise unsupported(path, f"holds values of a type that is not read ({error})", _SAVE) from None


def _sizes(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in spacing)
