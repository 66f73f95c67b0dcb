"""Thinning of binary images to lines one pixel wide."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

_PLACES = np.array([[8, 4, 2], [16, 0, 1], [32, 64, 128]], np.float32)
"""Bits of a pixel's neighbours: x1 is the right neighbour, x2 to x8 follow counterclockwise."""


def thin(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Thin a binary image until nothing changes. 8-connected regions stay connected, and holes remain.

    Args:
        mask: bool (H,W). Pixels outside the image count as False.

    Returns:
        bool (H,W), a subset of ``mask``.

    Source: Guo and Hall 1989, "Parallel thinning with two-subiteration algorithms", in the form of Lam, Lee and Suen 1992,
        page 879, as documented for MATLAB's ``bwmorph(mask, 'thin', Inf)``. A subiteration removes a pixel if all three
        conditions hold. G1: going around the pixel, its neighbours change from False to True exactly once. G2: count
        the pairs of adjacent neighbours with a True one, once from x1 and once from x2; the smaller number is 2 or 3.
        G3: (x2 or x3 or not x8) and x1 is False. The second subiteration uses G3 rotated by 180 degrees.
    """
    now = mask.astype(np.uint8)
    stays = _tables()
    while True:
        before = now
        for table in stays:
            codes = cv2.filter2D(now, cv2.CV_8U, _PLACES, borderType=cv2.BORDER_CONSTANT)
            now = now & np.asarray(cv2.LUT(codes, table), np.uint8)
        if np.array_equal(now, before):
            return now.astype(bool)


@cache
def _tables() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Lookup table of each subiteration, uint8 (256,): 1 for neighbourhoods whose pixel stays."""
    x = [(np.arange(256) >> place) & 1 == 1 for place in range(8)]  # x[0] is x1
    odd, even = range(0, 8, 2), range(1, 8, 2)
    crossings = sum((~x[i] & (x[i + 1] | x[(i + 2) % 8])).astype(int) for i in odd)
    from_first = sum((x[i] | x[i + 1]).astype(int) for i in odd)
    from_second = sum((x[i] | x[(i + 1) % 8]).astype(int) for i in even)
    pairs = np.minimum(from_first, from_second)
    common = (crossings == 1) & (pairs >= 2) & (pairs <= 3)
    first = common & ~((x[1] | x[2] | ~x[7]) & x[0])
    second = common & ~((x[5] | x[6] | ~x[3]) & x[4])
    return (~first).astype(np.uint8), (~second).astype(np.uint8)
