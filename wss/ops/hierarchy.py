"""Hierarchies of regions: a sequence of merges, ordered by the strength of the boundary that each removes."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Hierarchy:
    """A binary tree of merges whose leaves are the N finest regions of an image.

    Attributes:
        regions: Leaves, integers (H,W), ids 0..N-1.
        children: int64 (N-1,2). The merge in row m joins these two earlier nodes to node N + m.
        heights: float64 (N-1,), ascending: the strength of the boundary that each merge removes.
    """

    regions: NDArray[np.int32]
    children: NDArray[np.int64]
    heights: NDArray[np.float64]

    def at(self, threshold: float) -> NDArray[np.int32]:
        """Segmentation after all merges up to the strength ``threshold``: int32 (H,W), ids from 0."""
        return self.leaf_ids(threshold)[self.regions]

    def into(self, number: int) -> NDArray[np.int32]:
        """Segmentation into ``number`` regions, or into all leaves if there are fewer: int32 (H,W), ids from 0."""
        return self._after(max(0, len(self.heights) + 1 - max(number, 1)))[self.regions]

    def leaf_ids(self, threshold: float) -> NDArray[np.int32]:
        """For each leaf, its region in ``at(threshold)``, int32 (N,)."""
        return self._after(int(np.searchsorted(self.heights, threshold, side="right")))

    def saliency(self) -> NDArray[np.float64]:
        """Ultrametric contour map on a grid of pixels and of the positions between pixels.

        Returns:
            float64 (2H-1,2W-1). Pixels are at even indices and have the value 0. A position between two neighbouring
            pixels has the height at which their regions merge, 0 within a leaf. A position between four pixels has the
            maximum of the four heights around it.

        Source: Arbelaez, Maire, Fowlkes, Malik 2011, section 4.2.
        """
        height, width = self.regions.shape
        contours = np.zeros((2 * height - 1, 2 * width - 1))
        contours[::2, 1::2] = self._merged_at(self.regions[:, :-1], self.regions[:, 1:])
        contours[1::2, ::2] = self._merged_at(self.regions[:-1], self.regions[1:])
        around = (contours[:-2:2, 1::2], contours[2::2, 1::2], contours[1::2, :-2:2], contours[1::2, 2::2])
        contours[1::2, 1::2] = np.max(around, axis=0) if min(height, width) > 1 else 0
        return contours

    def _after(self, merges: int) -> NDArray[np.int32]:
        """The region of each leaf after the first ``merges`` merges, int32 (N,)."""
        leaves = len(self.heights) + 1
        node = np.arange(leaves + merges)
        node[self.children[:merges].ravel()] = np.repeat(leaves + np.arange(merges), 2)
        while (node[node] != node).any():  # each pass doubles the distance to the ancestor
            node = node[node]
        ids = np.unique(node[:leaves], return_inverse=True)[1].astype(np.int32)
        return ids.reshape(-1)

    def _merged_at(self, first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
        """Heights at which pairs of regions merge; 0 for a region with itself."""
        leaves = len(self.heights) + 1
        parent = np.full(leaves + len(self.heights), -1)
        parent[self.children.ravel()] = np.repeat(leaves + np.arange(len(self.heights)), 2)
        places = np.nonzero(first != second)
        pairs, inverse = np.unique(first[places].astype(np.int64) * leaves + second[places], return_inverse=True)
        low, high = (np.divmod(pairs, leaves)) if len(pairs) else (pairs, pairs)
        low, high = np.minimum(low, high), np.maximum(low, high)
        apart = np.arange(len(pairs))
        while len(
            apart
        ):  # a parent has a higher number than its children, so the lower node is below the common ancestor
            up = parent[low[apart]]
            low[apart], high[apart] = np.minimum(up, high[apart]), np.maximum(up, high[apart])
            apart = apart[low[apart] != high[apart]]
        result = np.zeros(first.shape)
        result[places] = self.heights[low - leaves][inverse.reshape(-1)] if len(pairs) else 0
        return result


def agglomerate(regions: NDArray[np.int32], sides: NDArray[Any], strength: NDArray[np.float64]) -> Hierarchy:
    """Merge the two neighbouring regions with the weakest boundary until one region is left.

    The strength of a boundary is the mean over its pixel sides. The boundary of a merged region with a third region
    consists of the boundaries of both parts with it. A mean of values is at least their minimum, so heights ascend.
    Boundaries of equal strength merge in the order of their regions' numbers.

    Args:
        regions: int32 (H,W), ids 0..N-1, N at least 1.
        sides: Integers (S,2), the two regions at each pixel side. Together the sides connect all regions.
        strength: float64 (S,), strength of each pixel side.

    Source: Arbelaez, Maire, Fowlkes, Malik 2011, section 4.2.
    """
    count = int(regions.max()) + 1
    codes = np.sort(sides, 1).astype(np.int64) @ np.array([count, 1])
    pairs, inverse = np.unique(codes, return_inverse=True)
    sums, lengths = (np.bincount(inverse.reshape(-1), weights) for weights in (strength, np.ones(len(strength))))
    neighbours: list[dict[int, tuple[float, float, float]]] = [{} for _ in range(count)]
    queue = []
    for pair, total, length in zip(pairs.tolist(), sums.tolist(), lengths.tolist(), strict=True):
        a, b = divmod(pair, count)
        neighbours[a][b] = neighbours[b][a] = (total / length, total, length)
        queue.append((total / length, a, b))
    heapq.heapify(queue)
    node = list(range(count))
    children, heights = [], []
    highest = 0.0
    while queue:
        mean, a, b = heapq.heappop(queue)
        boundary = neighbours[a].get(b)
        if boundary is None or boundary[0] != mean:  # an outdated entry: the boundary has merged or changed
            continue
        highest = max(highest, mean)  # by rounding a mean can be slightly below the minimum of its parts
        children.append((node[a], node[b]))
        heights.append(highest)
        if len(neighbours[a]) < len(neighbours[b]):
            a, b = b, a
        kept, merged = neighbours[a], neighbours[b]
        del kept[b], merged[a]
        for other, (_, total, length) in merged.items():
            if other in kept:
                total, length = total + kept[other][1], length + kept[other][2]
            of_other = neighbours[other]
            del of_other[b]
            mean = total / length
            kept[other] = of_other[a] = (mean, total, length)
            heapq.heappush(queue, (mean, a, other) if a < other else (mean, other, a))
        neighbours[b] = {}
        node[a] = count + len(heights) - 1
    return Hierarchy(regions, np.array(children, np.int64).reshape(-1, 2), np.array(heights, np.float64))
