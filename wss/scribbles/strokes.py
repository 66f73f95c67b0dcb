"""A scribble as the annotator drew it: a polyline with a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Stroke:
    """One polyline of one class.

    Attributes:
        label: Class index.
        points: float64 (N, 2) with N >= 1, columns x and y in pixels; pixel centres have integer coordinates.
        width: Brush width in pixels, >= 1.
    """

    label: int
    points: NDArray[np.float64]
    width: int = 1
