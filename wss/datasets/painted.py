"""Label images of napari, ilastik and other programs, in which 0 is unpainted and classes count from 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wss.datasets.finding import FileProblem
from wss.datasets.images import read_label
from wss.datasets.shapes import Drawing
from wss.labels import UNLABELLED
from wss.store.atomic import replace_file
from wss.store.raw_hdf5 import read_only_array

PAINTED_SUFFIXES = (".tif", ".tiff", ".png", ".h5", ".hdf5", ".npy")
"""File name endings of painted labels."""


def read_painted(path: Path, num_classes: int) -> Drawing:
    """Read one painted image: TIFF, PNG, NumPy, or HDF5 with one array (ilastik calls it ``exported_data``).

    Args:
        path: The file. Axes of length 1 beyond the second are removed.
        num_classes: K; painted numbers are 1 to K and become classes 0 to K-1, and 0 becomes 255.

    Raises:
        DataError: Missing, damaged, not of two dimensions, or a number is no class.
    """
    values = _values(path)
    while values.ndim > 2 and 1 in values.shape:
        values = values.squeeze(values.shape.index(1))
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.floor(values)).all():
        values = values.astype(np.int64) if np.abs(values).max(initial=0) < 2**31 else values
    if values.ndim != 2 or values.dtype.kind not in "iub":
        raise _problem(path, f"expected whole numbers (height, width), got {values.dtype} {values.shape}")
    if values.size and (values.min() < 0 or values.max() > num_classes):
        raise _problem(
            path,
            f"holds the number {int(values.max())}, but there are {num_classes} classes, painted as 1 to {num_classes}",
        )
    raster = np.where(values == 0, UNLABELLED, values.astype(np.int64) - 1).astype(np.uint8)
    return Drawing((raster.shape[0], raster.shape[1]), raster=raster)


def write_painted(path: Path, labels: NDArray[np.uint8]) -> None:
    """Write labels, uint8 (H, W), 255 = unlabelled, as a TIFF for ``read_painted`` and these programs."""
    with replace_file(path) as temporary:
        Image.fromarray(np.where(labels == UNLABELLED, 0, labels + 1).astype(np.uint8)).save(
            temporary, format="TIFF", compression="tiff_deflate"
        )


def _values(path: Path) -> NDArray[Any]:
    suffix = path.suffix.lower()
    if suffix in (".h5", ".hdf5"):
        return read_only_array(path)
    if suffix == ".npy":
        try:
            values: NDArray[Any] = np.load(path, allow_pickle=False)
        except Exception as error:  # NumPy parses headers as Python and raises anything on damaged ones
            raise _problem(path, f"not a NumPy array of numbers ({error})") from None
        return values
    return read_label(path)


def _problem(path: Path, message: str) -> FileProblem:
    return FileProblem("malformed-file", path, message, "export the labels as one image of whole numbers")
