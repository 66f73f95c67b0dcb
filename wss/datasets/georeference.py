"""GeoTIFF's tags of a part of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_SCALE, _TIE_POINTS, _MATRIX = 33550, 33922, 34264


def shifted(geo: Sequence[tuple[Any, ...]], top: int, left: int) -> list[tuple[Any, ...]]:
    """GeoTIFF's tags for a part of an image, so that its pixels keep their geographic positions.

    Args:
        geo: Tags of the image (``geo_tags``).
        top: First row of the part.
        left: First column of the part.
    """
    scale = next((tag[3] for tag in geo if tag[0] == _SCALE), None)
    tags = []
    for code, dtype, count, value, once in geo:
        moved = value
        if code == _TIE_POINTS:
            points = np.array(value, np.float64).reshape(-1, 6)  # column, row, height; x, y, z
            if len(points) == 1 and scale is not None:
                points[0, 3] += left * scale[0]
                points[0, 4] -= top * scale[1]
            else:
                points[:, 0] -= left
                points[:, 1] -= top
            moved = tuple(points.ravel().tolist())
        elif code == _MATRIX:
            matrix = np.array(value, np.float64).reshape(4, 4)
            matrix[:, 3] = matrix @ [left, top, 0, 1]
            moved = tuple(matrix.ravel().tolist())
        tags.append((code, dtype, count, moved, once))
    return tags
