"""Write masks of volumes: NIfTI with the geometry of the image, or TIFF stacks."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from wss.datasets.mask_files import mask_colours
from wss.datasets.nifti import NiftiVolume
from wss.datasets.volume_file import VolumeFile, package
from wss.store.atomic import replace_file, write_bytes


def mask_ending(volume: VolumeFile) -> str:
    """File name ending of a volume's mask."""
    return ".nii.gz" if isinstance(volume, NiftiVolume) else ".tif"


def write_volume_mask(
    path: Path, volume: VolumeFile, axis: int, slices: Sequence[NDArray[np.uint8]], palette: NDArray[np.uint8]
) -> None:
    """Write the mask of a volume. An existing file is replaced atomically.

    NIfTI masks are uint8 with the grid, affine, codes, units and spacing of the image. Other masks are multi-page indexed
    TIFF, in the order in which the image's slices are read.

    Args:
        path: The file, with the ending ``mask_ending``.
        volume: The image.
        axis: The axis along which its slices lie.
        slices: The mask of every slice, uint8 (H, W), class indices and 255.
        palette: uint8 (K, 3), the colours of classes, for TIFF.
    """
    if not isinstance(volume, NiftiVolume):
        _write_stack(path, slices, palette)
        return
    labels = np.stack(slices, axis=axis)
    nibabel = package("nibabel")
    header = volume.header.copy()
    labels = labels.reshape(header.get_data_shape()[:3])
    affine = header.get_best_affine()
    header.set_data_dtype(np.uint8)
    header["cal_min"] = header["cal_max"] = 0
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    image = kind(labels, affine, header)
    write_bytes(path, gzip.compress(image.to_bytes(), mtime=0))


def _write_stack(path: Path, slices: Sequence[NDArray[np.uint8]], palette: NDArray[np.uint8]) -> None:
    colormap = mask_colours(palette).T.astype(np.uint16) * 257
    with replace_file(path) as temporary, tifffile.TiffWriter(temporary) as file:
        for labels in slices:
            file.write(
                labels,
                photometric="palette",
                colormap=colormap,
                compression="deflate",
                metadata=None,
            )
