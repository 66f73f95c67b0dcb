"""Edge maps of published detectors as files: grey PNG, or MATLAB files with a contour map of double size."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem
from wss.datasets.listing import files_by_stem
from wss.datasets.raster import read_raster
from wss.errors import DataError
from wss.store.raw_hdf5 import read_raw_arrays

EdgeStrengths = NDArray[np.float64]

MAP_SUFFIXES = (".png", ".mat")

VARIABLE = "ucm2"
"""Name of the contour map in MATLAB files."""


def find_edge_maps(folder: Path, split: str, ids: Iterable[str]) -> list[Path]:
    """Find the maps of images, ``NAME.png`` or ``NAME.mat``, in the order of the images.

    Args:
        folder: Folder of the maps, or its parent if the maps are in a folder with the name of the split.
        split: Name of the split.
        ids: Names of the images.

    Raises:
        DataError: No such folder, a map is missing, or one image has several.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder of NAME.png or NAME.mat")
    place = folder / split if (folder / split).is_dir() else folder
    files, doubtful = files_by_stem(place, MAP_SUFFIXES)
    ids = list(ids)
    missing = [name for name in ids if name not in files]
    if missing:
        raise DataError(
            f"{place}: no map of {len(missing)} of the {len(ids)} images of split {split!r}, for example {missing[0]}.png or "
            f"{missing[0]}.mat; add them, or choose another --split or --root"
        )
    wanted = set(ids)
    for finding in doubtful:
        if finding.image_id in wanted:
            raise DataError(f"{place}: {finding.image_id} has more than one map; keep one of them")
    return [files[name] for name in ids]


def read_edge_map(path: Path, size: tuple[int, int]) -> EdgeStrengths:
    """Read an edge map.

    Args:
        path: A grey PNG, whose largest value becomes 1 (255 of 8 bits, 65535 of 16). Or a MATLAB file with ``ucm2`` of size
            (2H+1,2W+1): a contour map whose odd rows and columns, counted from 0, are pixels and whose even ones are
            between them. The pixel in row i and column j gets the value in row 2i+2 and column 2j+2, as in the published
            benchmark. Integers are divided by the largest of their type.
        size: Required size (H,W) of the map.

    Returns:
        float64 (H,W) in [0,1].

    Raises:
        DataError: Missing, damaged, of another size, colour, or values that are not finite or outside [0,1].
    """
    values = _contour_map(path, size) if path.suffix.lower() == ".mat" else _grey(path, size)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        low, high = values.min(), values.max()
        raise FileProblem(
            "values",
            path,
            f"expected strengths in [0,1], got {low:g} to {high:g}",
            "divide them by the largest of all maps",
        )
    return values


def _grey(path: Path, size: tuple[int, int]) -> EdgeStrengths:
    raster = read_raster(path)
    values = raster.values
    if values.ndim == 3 and raster.colours == "rgb" and (values == values[..., :1]).all():
        values = values[..., 0]  # grey saved as RGB
    if values.ndim != 2 or raster.palette is not None or raster.lossy:
        raise FileProblem("colour", path, "expected a grey PNG of edge strengths", "save it with one channel as PNG")
    _require_size(path, values.shape, size, "")
    return _scaled(values, raster.largest)


def _contour_map(path: Path, size: tuple[int, int]) -> EdgeStrengths:
    values = _matlab(path)
    height, width = size
    _require_size(path, values.shape, (2 * height + 1, 2 * width + 1), f"{VARIABLE} of double size, ")
    return _scaled(values[2::2, 2::2], None)


def _matlab(path: Path) -> NDArray[Any]:
    from scipy.io import loadmat, whosmat

    if not path.is_file():
        raise FileProblem("missing-file", path, "no such file", "restore it")
    try:
        names = [name for name, _, _ in whosmat(path)]
        values = loadmat(path, variable_names=[VARIABLE], mat_dtype=True).get(VARIABLE)
    except NotImplementedError:  # version 7.3 is HDF5, which keeps arrays of MATLAB transposed
        arrays = read_raw_arrays(path, [VARIABLE])
        if VARIABLE in arrays and arrays[VARIABLE].dtype.kind != "f":
            raise FileProblem(
                "values",
                path,
                f"{VARIABLE} is {arrays[VARIABLE].dtype} in a file of version 7.3, where its range is not known",
                "save it as double in [0,1], or with -v7",
            ) from None
        names, values = [], arrays.get(VARIABLE)
        values = None if values is None else values.T
    except Exception as error:  # scipy raises anything on damaged files
        raise FileProblem(
            "unreadable-image", path, f"not a readable MATLAB file ({error})", "copy or download it again"
        ) from error
    if values is None:
        message = f"expected the variable {VARIABLE}, it holds {', '.join(names) or 'others'}"
        raise FileProblem("unreadable-image", path, message, f"save the contour map as {VARIABLE}, or maps as PNG")
    values = np.asarray(values)
    if values.dtype.kind not in "fiub":
        raise FileProblem("unreadable-image", path, f"{VARIABLE} is {values.dtype}", "save it as double in [0,1]")
    return values


def _require_size(path: Path, got: tuple[int, ...], wanted: tuple[int, int], kind: str) -> None:
    if got != wanted:
        message = f"expected {kind}{wanted[0]}x{wanted[1]} (rows x columns), got {'x'.join(map(str, got))}"
        raise FileProblem("size-mismatch", path, message, "make the map at the size of the annotated image")


def _scaled(values: NDArray[Any], largest: float | None) -> EdgeStrengths:
    if values.dtype.kind in "iu":
        return values.astype(np.float64) / (np.iinfo(values.dtype).max if largest is None else largest)
    return values.astype(np.float64)
