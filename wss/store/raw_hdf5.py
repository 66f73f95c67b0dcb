"""Safe reading of arrays from HDF5 files of data sets, which wss did not write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wss.errors import DataError

MAX_BYTES = 2**31
"""Larger arrays are refused before they are read, because compressed HDF5 can declare arrays larger than the memory."""


def read_raw_arrays(path: Path, names: Sequence[str], *, index: int | None = None) -> dict[str, NDArray[Any]]:
    """Read arrays of an HDF5 file.

    Args:
        path: The file.
        names: Datasets at its root. Datasets that do not exist are left out of the result.
        index: Read only this element along the first axis.

    Returns:
        Numeric arrays by name.

    Raises:
        DataError: The file is missing, damaged or not HDF5; or an array is not numeric, too large, or has no such index.
    """
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with h5py.File(path, "r") as file:
            for name in names:
                if _is_inside(file, name):
                    dataset = _numeric(path, file, name)
                    if index is not None and not (dataset.ndim and 0 <= index < dataset.shape[0]):
                        raise DataError(
                            f"{path}: {name} has shape {dataset.shape}, no element {index}; download the file again"
                        )
                    arrays[name] = np.asarray(dataset[()] if index is None else dataset[index])
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; restore it or take it out of the list") from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a readable HDF5 file ({error}); copy or download it again") from error
    return arrays


def read_only_array(path: Path) -> NDArray[Any]:
    """Read the one array that an HDF5 file holds at its root.

    Raises:
        DataError: The file is missing, damaged or not HDF5; it has no array or several; or the array is not numeric or too large.
    """
    try:
        with h5py.File(path, "r") as file:
            names = [name for name in file if _is_inside(file, name) and isinstance(file[name], h5py.Dataset)]
    except (OSError, RuntimeError, KeyError) as error:
        raise DataError(f"{path}: not a readable HDF5 file ({error}); copy or download it again") from error
    if len(names) != 1:
        raise DataError(f"{path}: expected one array, it has {', '.join(names) or 'none'}; export one image per file")
    return read_raw_arrays(path, names)[names[0]]


def raw_shape(path: Path, name: str) -> tuple[int, ...]:
    """Shape of an array of an HDF5 file, without reading it.

    Raises:
        DataError: The file is missing, damaged or not HDF5, or it has no such array.
    """
    try:
        with h5py.File(path, "r") as file:
            if not _is_inside(file, name):
                raise DataError(f"{path}: has no array {name!r}; it holds {', '.join(file) or 'nothing'}")
            return tuple(_numeric(path, file, name).shape)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; restore it or take it out of the list") from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a readable HDF5 file ({error}); copy or download it again") from error


def _is_inside(file: h5py.File, name: str) -> bool:
    """True if this file itself contains ``name``. Links to other files are not followed."""
    return name in file and not isinstance(file.get(name, getlink=True), h5py.ExternalLink)


def _numeric(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "iufb":
        raise DataError(f"{path}: {name} is not an array of numbers; download the file again")
    if dataset.is_virtual or dataset.external:
        raise DataError(f"{path}: {name} keeps its values in other files; store them in this one")
    if dataset.size * dataset.dtype.itemsize > MAX_BYTES:
        raise DataError(
            f"{path}: {name} has shape {dataset.shape}, more than the limit of {MAX_BYTES} bytes; cut it up"
        )
    return dataset
