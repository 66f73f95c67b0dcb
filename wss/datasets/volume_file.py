"""Read three-dimensional scans (NIfTI, DICOM series, TIFF stacks) slice by slice."""

from __future__ import annotations

import importlib
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem, Finding
from wss.datasets.images import PixelOptions, Ranges, chosen_bands, data_mask, stretch_ranges
from wss.datasets.raster import Raster
from wss.errors import UsageError

NIFTI_ENDINGS = (".nii.gz", ".nii")
STACK_ENDINGS = (".tif", ".tiff")

_SAMPLED_SLICES = 64
_SAMPLED_VALUES = 4_000_000
_KEPT_BYTES = 2**30
_NEEDED = 3
_MOST = 6

Affine = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Grid:
    """The voxel grid of a volume, along the axes of its file.

    Attributes:
        shape: Number of voxels along each axis.
        spacing_mm: Distance between voxel centres along each axis in millimetres; None if the file does not contain it.
        affine: Four rows of four numbers that map voxel indices to millimetres. Right, anterior and superior are positive.
            None if the file does not contain it.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] | None = None
    affine: Affine | None = None


class VolumeFile(ABC):
    """One volume on disk. The header is read at once, values slice by slice.

    Attributes:
        path: The file, or the folder of a series.
        grid: The voxel grid.
        axis: The axis along which it is stored as images; None if it is one array.
        files: All files that it is read from.
        values: Type and bits of its values as text; None for 8 bits.
        remarks: Findings about doubtful properties.
    """

    path: Path
    grid: Grid
    axis: int | None = None
    files: tuple[Path, ...]
    values: str | None = None
    remarks: tuple[Finding, ...] = ()

    @abstractmethod
    def raster(self, axis: int, number: int) -> Raster:
        """One slice with values after the scaling in the file. Rows and columns are the other two axes.

        Args:
            axis: 0, 1 or 2.
            number: The slice, from 0.

        Raises:
            DataError: The file is damaged, or has unsupported values.
        """

    def file_of(self, number: int) -> Path:
        """The file of a slice."""
        return self.path


def open_volume(path: Path, channel: int | None = None, *, slices_first: bool = False) -> VolumeFile:
    """Open a volume: a NIfTI file, a multi-page TIFF, or the folder of a DICOM series.

    A volume that has not changed is opened once per process.

    Args:
        path: The file or folder.
        channel: Index of the volume in files with several, from 0. None refuses such files.
        slices_first: Reverse the axes of a NIfTI file to slices, rows and columns, as in DICOM and TIFF.

    Raises:
        DataError: Missing, damaged, not a volume, or several without ``channel``.
        UsageError: A package that reads it is missing.
    """
    return _open(path, channel, slices_first, _state(path))


@lru_cache(maxsize=4096)
def _open(path: Path, channel: int | None, slices_first: bool, state: Hashable) -> VolumeFile:
    from wss.datasets.dicom import DicomSeries
    from wss.datasets.nifti import NiftiVolume
    from wss.datasets.tiff_stack import TiffStack

    if path.is_dir():
        return DicomSeries(path, channel)
    if path.name.lower().endswith(NIFTI_ENDINGS):
        return NiftiVolume(path, channel, slices_first=slices_first)
    return TiffStack(path, channel)


def _state(path: Path) -> Hashable:
    """A value that changes when a file or the files of a folder change."""
    try:
        if path.is_dir():
            with os.scandir(path) as entries:
                return tuple(sorted((e.name, e.stat().st_mtime_ns, e.stat().st_size) for e in entries))
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


class _Arrays:
    """Cache of the arrays read last: one volume with its mask and scribble, and more if they are small."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        with self._lock:
            if key not in self._kept:
                while len(self._kept) >= _NEEDED and (len(self._kept) >= _MOST or self._bytes() > _KEPT_BYTES):
                    self._kept.popitem(last=False)
                self._kept[key] = load()
            self._kept.move_to_end(key)
            return self._kept[key]

    def _bytes(self) -> int:
        return sum(array.nbytes for array in self._kept.values() if not isinstance(array, np.memmap))


_arrays = _Arrays()


def kept_array(path: Path, part: Hashable, load: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """Read an array from a file and cache it for the next slices.

    Args:
        path: The file. It is read again if it has changed.
        part: Identifies the array in the file.
        load: Function that reads the array.
    """
    return _arrays.get((path, part, _state(path)), load)


def volume_ranges(volume: VolumeFile, axis: int, options: PixelOptions) -> Ranges:
    """The values that become 0 and 255 in all slices of a volume, see ``PixelOptions.stretch``.

    Percentiles are computed from up to 64 evenly spread slices of the volume, and up to 4 million of their values.

    Raises:
        DataError: See ``VolumeFile.raster`` and ``picture``.
    """
    return _ranges(volume, axis, PixelOptions(**{n: getattr(options, n) for n in PixelOptions.model_fields}))


@lru_cache(maxsize=4096)
def _ranges(volume: VolumeFile, axis: int, options: PixelOptions) -> Ranges:
    count = volume.grid.shape[axis]
    first = volume.raster(axis, 0)
    measured = options.stretch == "percentiles" or (options.stretch == "auto" and first.largest is None)
    if not measured:
        return stretch_ranges(chosen_bands(first, options, volume.path), first, options)
    chosen = sorted({round(n * (count - 1) / max(1, _SAMPLED_SLICES - 1)) for n in range(_SAMPLED_SLICES)})
    step = max(1, len(chosen) * first.values[..., :1].size // _SAMPLED_VALUES)
    parts = []
    for number in chosen:
        raster = volume.raster(axis, number)
        values = chosen_bands(raster, options, volume.path)
        valid = data_mask(values, {raster.nodata, options.nodata}, volume.path)
        flat = values.reshape(-1, 1, *values.shape[2:])
        parts.append((flat if valid is None else flat[valid.ravel()])[::step])
    return stretch_ranges(np.concatenate(parts), first, options)


def require_channel(path: Path, channel: int | None, count: int, what: str) -> int:
    """Index of the volume to read from a file, from 0.

    Args:
        path: The file.
        channel: The chosen index, or None.
        count: Number of volumes in the file.
        what: Description of the volumes for messages.

    Raises:
        DataError: There are several volumes and none was chosen, or the chosen one does not exist.
    """
    if channel is None and count > 1:
        message = f"holds {count} volumes ({what}), and one is expected"
        remedy = f"choose one of 0 to {count - 1} with the option channel: give `wss init` `-o channel=0` as well"
        raise FileProblem("volume-channels", path, message, remedy)
    if channel is not None and channel >= count:
        message = f"has no channel {channel}: its {count} volumes ({what}) count from 0"
        raise FileProblem("volume-channels", path, message, "correct the option channel")
    return channel or 0


def package(name: str) -> Any:
    """Import an optional package that reads volumes.

    Raises:
        UsageError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UsageError(
            f"this needs the package {name}, which is not installed: pip install 'wss[volumes]' (in a copy of the "
            f"sources: pip install -e '.[volumes]')"
        ) from None


def require_same_grid(file: Path, found: Grid, image: Path, wanted: Grid) -> None:
    """Raise an error unless the annotation of a volume has the same voxel grid.

    Affines are equal if no corner of the volume moves by more than 0.05 voxels.

    Raises:
        DataError: Shapes or affines differ; the message names both.
    """
    if found.shape != wanted.shape:
        message = f"has {_product(found.shape)} voxels, its image {image.name} has {_product(wanted.shape)}"
        if sorted(found.shape) == sorted(wanted.shape):
            message += "; the axes are in another order"
        raise FileProblem(
            "volume-shape", file, message, "save it with the voxels of the image, not resampled or turned"
        )
    if found.affine is None or wanted.affine is None:
        return
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)
    corners[:, :3] *= np.array(wanted.shape) - 1
    here, there = np.array(found.affine), np.array(wanted.affine)
    voxel = np.linalg.norm(there[:3, :3], axis=0).min()
    if np.abs(corners @ (here - there).T).max() > 0.05 * voxel:
        message = (
            f"its affine {_rows(found.affine)} is not that of its image {image.name}, {_rows(wanted.affine)}: the same voxel "
            "would be another place"
        )
        remedy = (
            "save it in the image's space, without turning it; if its voxels are those of the image and only the header is "
            "wrong, save it with the image's affine"
        )
        raise FileProblem("volume-affine", file, message, remedy)


def _product(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _rows(affine: Affine) -> str:
    return "[" + ", ".join("[" + " ".join(f"{value:.5g}" for value in row) + "]" for row in affine[:3]) + "]"
