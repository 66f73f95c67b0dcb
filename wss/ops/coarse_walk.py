"""Random-walk labels of large images: the walk on a coarser grid, and the cheapest paths from it to every pixel."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from wss.errors import UsageError
from wss.ops.random_walk import cheapest_levels, hitting_probabilities

_LARGE = 30.0
_BESIDE = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


class Walked(NamedTuple):
    """What a walk on a grid found.

    Attributes:
        ranks: uint8 (H,W), the most probable label of each pixel, as a place in the list of labels.
        probs: float64 (L,h,w), the probability of each label at the nodes.
        scale: A node stands for ``scale`` x ``scale`` pixels; h = ceil(H / scale).
    """

    ranks: NDArray[np.uint8]
    probs: NDArray[np.float64]
    scale: int


class CoarseWalk:
    """Labels by ``hitting_probabilities`` on a grid with fewer nodes than pixels; all but the labels is computed once.

    With k(B) = arccosh(2 exp(B) - 1), the sum Z of walks across an area of constant boundary score B falls by exp(-k) per
    pixel. A node's boundary score is the one whose k is the mean k of its pixels times the scale. So the grid's Z falls as
    that of the pixels does, for weak boundaries (where walks wander) and strong ones (which they cross straight).

    Where the most probable label differs between neighbouring nodes, pixels take the label to which the cheapest path leads,
    counting k along the path and the nodes' own cheapest paths beyond. Between strong boundaries labels end there, because Z is
    the weight of the cheapest path.

    Args:
        boundary: B, floating point (H,W), at least 0.
        nodes: Most nodes of the grid; the scale is the smallest whole number that keeps it.

    Raises:
        UsageError: ``boundary`` is not (H,W), or ``nodes`` is below 1.
    """

    def __init__(self, boundary: NDArray[Any], nodes: int) -> None:
        if boundary.ndim != 2 or 0 in boundary.shape or nodes < 1:
            raise UsageError(f"expected a boundary (H,W) and at least one node; got {boundary.shape} and {nodes}")
        height, width = boundary.shape
        self.shape = (height, width)
        self.scale = scale = max(1, math.ceil(math.sqrt(height * width / nodes)))
        self._decay = _decay(boundary)
        if scale == 1:
            self._boundary = torch.from_numpy(np.asarray(boundary, np.float64))
            return
        padded = cv2.copyMakeBorder(self._decay, 0, -height % scale, 0, -width % scale, cv2.BORDER_REPLICATE)
        rows, columns = padded.shape[0] // scale, padded.shape[1] // scale
        mean = padded.reshape(rows, scale, columns, scale).mean((1, 3), dtype=np.float64)
        self._boundary = torch.from_numpy(_boundary_of(scale * mean))

    def solve(self, ranks: NDArray[np.uint8], count: int) -> Walked:
        """Find the label that a walk from each pixel most probably meets first.

        Args:
            ranks: uint8 (H,W), labels 0..count-1, 255 where unlabelled; at least one pixel is labelled.
            count: L, number of labels.
        """
        coarse = torch.from_numpy(self._on_grid(ranks, count).astype(np.int64))
        boundary = self._boundary
        scaled = self.scale > 1 and bool(boundary.isfinite().all())
        levels = cheapest_levels(boundary[None], coarse[None]) if scaled else None
        found = hitting_probabilities(boundary[None], coarse[None], count, jobs=1, potential=levels)[0]
        probs = found.numpy()
        best = probs.argmax(0).astype(np.uint8)
        if self.scale == 1:
            return Walked(np.where(ranks == 255, best, ranks), probs, 1)
        costs = np.zeros(best.shape) if levels is None else -levels[0].numpy()
        return Walked(self._refined(ranks, best, costs), probs, self.scale)

    def _on_grid(self, ranks: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
        """The label that most labelled pixels of each node have, 255 where none is labelled."""
        if self.scale == 1:
            return ranks
        rows, columns = self._boundary.shape
        y, x = np.nonzero(ranks != 255)
        places = (y // self.scale) * columns + x // self.scale
        votes = np.bincount(places * count + ranks[y, x], minlength=rows * columns * count).reshape(-1, count)
        return np.where(votes.any(1), votes.argmax(1), 255).astype(np.uint8).reshape(rows, columns)

    def _enlarged(self, nodes: NDArray[Any]) -> NDArray[Any]:
        size = (nodes.shape[1] * self.scale, nodes.shape[0] * self.scale)
        return np.asarray(cv2.resize(nodes, size, interpolation=cv2.INTER_NEAREST))[: self.shape[0], : self.shape[1]]

    def _refined(
        self, ranks: NDArray[np.uint8], best: NDArray[np.uint8], costs: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """The nodes' labels at every pixel; where they differ between neighbours, those of the cheapest paths."""
        window = np.ones((3, 3), np.uint8)
        differs = (np.asarray(cv2.dilate(best, window)) != cv2.erode(best, window)).astype(np.uint8)
        labels = np.where(ranks == 255, self._enlarged(best), ranks)
        free = (self._enlarged(differs) > 0) & (ranks == 255)
        area = np.asarray(cv2.dilate(free.astype(np.uint8), _BESIDE)) > 0
        pixels = np.flatnonzero(area)
        if not free.any() or len(pixels) == free.sum():
            return labels
        place = np.full((self.shape[0] + 2, self.shape[1] + 2), -1, np.int32)
        place[1:-1, 1:-1][area] = np.arange(len(pixels), dtype=np.int32)
        inside = free.ravel()[pixels]
        y, x = np.divmod(pixels, self.shape[1])
        starts, ends = [], []
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            neighbour = place[y + 1 + down, x + 1 + right]
            to = np.flatnonzero((neighbour >= 0) & inside)
            starts.append(neighbour[to])
            ends.append(to)
        # One more node leads to the pixels around the area and to labelled ones, at the cost from there to a scribble.
        known = np.flatnonzero(~inside)
        beyond = np.where(ranks[y[known], x[known]] == 255, costs[y[known] // self.scale, x[known] // self.scale], 0)
        end = np.concatenate(ends)
        weights = np.concatenate([self._decay.ravel()[pixels[end]], beyond - beyond.min()]) + 1e-9
        origin = len(pixels)
        rows = np.concatenate([*starts, np.full(len(known), origin)])
        graph = csr_matrix((weights, (rows, np.concatenate([end, known]))), shape=(origin + 1, origin + 1))
        _, before = dijkstra(graph, indices=origin, return_predecessors=True)
        labels.ravel()[pixels] = labels.ravel()[pixels][_roots(before[:origin])]
        return labels


def _decay(boundary: NDArray[Any]) -> NDArray[np.float32]:
    """k(B) = arccosh(2 exp(B) - 1), float32 (H,W)."""
    small = 2 * np.expm1(np.minimum(boundary, _LARGE).astype(np.float64))
    near = np.log1p(small + np.sqrt(small * (small + 2)))
    return np.where(boundary > _LARGE, boundary + math.log(4), near).astype(np.float32)


def _boundary_of(decay: NDArray[np.float64]) -> NDArray[np.float64]:
    """The boundary score B with k(B) = decay."""
    boundary: NDArray[np.float64] = np.maximum(decay + 2 * np.log1p(np.exp(-decay)) - 2 * math.log(2), 0)
    return boundary


def _roots(before: NDArray[np.int32]) -> NDArray[np.int64]:
    """The first pixel of the path to each pixel.

    Args:
        before: The pixel before each on its path; the number of pixels, or a negative number, at the first.
    """
    own = np.arange(len(before))
    roots = np.where((before < 0) | (before == len(before)), own, before)
    while True:
        further = roots[roots]
        if (further == roots).all():
            return roots
        roots = further
