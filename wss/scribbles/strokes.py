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


def pack_strokes(strokes: tuple[Stroke, ...]) -> NDArray[np.float64]:
    """Pack strokes into one array, float64 (N,5), a row per point: number of the stroke, label, width, x, y."""
    rows = [(n, s.label, s.width, x, y) for n, s in enumerate(strokes) for x, y in s.points]
    return np.array(rows, np.float64).reshape(-1, 5)


def unpack_strokes(rows: NDArray[np.float64]) -> tuple[Stroke, ...]:
    """Inverse of ``pack_strokes``."""
    strokes = []
    for number in np.unique(rows[:, 0]):
        part = rows[rows[:, 0] == number]
        strokes.append(Stroke(int(part[0, 1]), part[:, 3:].copy(), int(part[0, 2])))
    return tuple(strokes)
