"""Slices of volumes: their ids, their pixels, and the axis along which a volume is cut."""

from __future__ import annotations

from wss.datasets.images import Picture, PixelOptions, picture
from wss.datasets.volume_file import (
    VolumeFile,
    volume_ranges,
)

_SAME = 1.01
"""Spacings that differ by less than this factor are the same."""


def slice_id(volume: str, number: int) -> str:
    """The image id of a slice."""
    return f"{volume}_slice_{number:03d}"


def read_slice(volume: VolumeFile, axis: int, number: int, options: PixelOptions) -> Picture:
    """One slice as input of networks, see ``read_picture``.

    Args:
        volume: The volume.
        axis: The axis along which the volume is cut into slices.
        number: The slice, from 0.
        options: ``PixelOptions``; percentiles are those of the volume.

    Raises:
        DataError: See ``VolumeFile.raster`` and ``read_picture``.
    """
    return picture(volume.raster(axis, number), options, volume.path, volume_ranges(volume, axis, options))


def usual_axis(volume: VolumeFile) -> int:
    """The default axis along which a volume is cut: the axis along which its images are stored, else the one with the
    largest spacing, or axis 2 if several axes have the largest spacing or it is unknown.
    """
    if volume.axis is not None:
        return volume.axis
    spacing = volume.grid.spacing_mm
    if spacing is None:
        return 2
    largest = [axis for axis in range(3) if spacing[axis] * _SAME >= max(spacing)]
    return largest[0] if len(largest) == 1 else 2
