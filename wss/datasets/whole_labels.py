"""Labels from the values that a file stores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.datasets.finding import FileProblem
from wss.datasets.raster import Raster
from wss.datasets.value_map import remap
from wss.labels import UNLABELLED

_ROUNDING = 1e-3


def whole_labels(
    raster: Raster, path: Path, ignore: Sequence[int] = (), values_of: Sequence[tuple[int, int]] = ()
) -> NDArray[np.uint8]:
    """Class indices from one channel of any type.

    Floating-point values may deviate from integers by 0.001, as in scaled files. NaN, transparent pixels and pixels that the
    file marks as having no data are unlabelled.

    Args:
        raster: The stored values, one channel.
        path: Named in errors.
        ignore: Values that become 255. They may be outside the range of labels.
        values_of: Stored value and class index, see ``ValueMap``.

    Returns:
        uint8 (H, W), 255 where unlabelled.

    Raises:
        DataError: Several channels, a lossy compression, fractions, or values outside of 0 to 255.
    """
    if raster.lossy:
        message = "labels saved with a lossy compression, which changes class indices"
        raise FileProblem("lossy-label", path, message, "save them again without it")
    values = raster.values
    if values.ndim != 2:
        message = f"expected class indices, got {values.shape[2]} channels of {values.dtype} ({raster.colours})"
        raise FileProblem("rgb-label", path, message, "save one channel with class indices")
    unlabelled = np.zeros(values.shape, bool) if raster.transparent is None else raster.transparent.copy()
    if raster.nodata is not None:
        unlabelled |= values == raster.nodata
    if values.dtype.kind == "f":
        unlabelled |= np.isnan(values)
        values = _rounded(np.where(unlabelled, 0, values), path)
    labels: NDArray[Any] = np.where(unlabelled, 0, remap(values, ignore, values_of))
    if labels.size and (labels.min() < 0 or labels.max() > UNLABELLED):
        message = f"expected labels from 0 to 255, got {labels.min():g} to {labels.max():g}"
        remedy = "renumber the classes from 0, and use 255 for unlabelled pixels or name the value in the option ignore"
        raise FileProblem("label-range", path, message, remedy)
    return np.where(unlabelled, UNLABELLED, labels).astype(np.uint8)


def _rounded(values: NDArray[Any], path: Path) -> NDArray[Any]:
    whole: NDArray[Any] = np.rint(values)
    wrong = values[~np.isclose(values, whole, rtol=0, atol=_ROUNDING) | np.isinf(values)]
    if wrong.size:
        message = f"expected whole numbers, got {wrong[0]:g}"
        raise FileProblem("label-range", path, message, "save class indices, without interpolation between them")
    return whole
