"""Random-walk labels of large images: hitting probabilities on a coarse grid, then cheapest paths to every pixel."""

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
from wss.labels import UNLABELLED
from wss.ops.hitting import cheapest_levels, hitting_probabilities

_LARGE = 30.0
_BESIDE = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


class Walked(NamedTuple):
    """Result of a random walk on a grid.

    Attributes:
        ranks: uint8 (H,W), the most probable label of each pixel, as an index into the list of labels.
        probs: float64 (L,h,w), the probability of each label at the nodes of the grid.
        scale: Side of a node in pixels: a node covers ``scale`` x ``scale`` pixels; h = ceil(H / scale).
    """

    ranks: NDArray[np.uint8]
    probs: NDArray[np.float64]
    scale: int


class CoarseHitting:
    """Labels by ``hitting_probabilities`` on a grid with fewer nodes than pixels. The grid is computed once per image.

    Let k(B) = arccosh(2 exp(B) - 1). In an area of constant boundary score B, the sum Z over walks falls by the factor
    exp(-k) per pixel. The k of a node is the mean k of its pixels times the scale. So Z falls on the grid as it does on
    the pixels, both for weak boundaries (where walks wander) and for strong ones (which walks cross straight).

    Where the most probable label differs between neighbouring nodes, pixels get the label at the end of their cheapest
    path. The cost of a path is the sum of k along it, plus the cost of the cheapest path of the node that it reaches.
    At strong boundaries the labels meet on the boundary, because Z is then the weight of the cheapest path.

    Args:
        boundary: B, floating point (H,W), at least 0.
        nodes: Largest number of nodes of the grid. The scale is the smallest whole number that respects it.

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
        """Find for each pixel the label that a random walk from it most probably hits first.

        Args:
            ranks: uint8 (H,W), labels 0..count-1, 255 where unlabelled. At least one pixel must be labelled.
            count: L, number of labels.
        """
        coarse = torch.from_numpy(self._on_grid(ranks, count).astype(np.int64))
        boundary = self._boundary
        scaled = self.scale > 1 and bool(boundary.isfinite().all())
        levels = cheapest_levels(boundary[None], coarse[None]) if scaled else None
        probabilities = hitting_probabilities(boundary[None], coarse[None], count, jobs=1, potential=levels)[0]
        probs = probabilities.numpy()
        best = probs.argmax(0).astype(np.uint8)
        if self.scale == 1:
            return Walked(np.where(ranks == UNLABELLED, best, ranks), probs, 1)
        costs = np.zeros(best.shape) if levels is None else -levels[0].numpy()
        return Walked(self._refined(ranks, best, costs), probs, self.scale)

    def _on_grid(self, ranks: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
        """The most frequent label among the labelled pixels of each node, 255 if none is labelled."""
        if self.scale == 1:
            return ranks
        rows, columns = self._boundary.shape
        y, x = np.nonzero(ranks != UNLABELLED)
        places = (y // self.scale) * columns + x // self.scale
        votes = np.bincount(places * count + ranks[y, x], minlength=rows * columns * count).reshape(-1, count)
        return np.where(votes.any(1), votes.argmax(1), UNLABELLED).astype(np.uint8).reshape(rows, columns)

    def _enlarged(self, nodes: NDArray[Any]) -> NDArray[Any]:
        size = (nodes.shape[1] * self.scale, nodes.shape[0] * self.scale)
        return np.asarray(cv2.resize(nodes, size, interpolation=cv2.INTER_NEAREST))[: self.shape[0], : self.shape[1]]

    def _refined(
        self, ranks: NDArray[np.uint8], best: NDArray[np.uint8], costs: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """Labels of all pixels: the node's label, or, where neighbouring nodes differ, that of the cheapest path."""
        window = np.ones((3, 3), np.uint8)
        differs = (np.asarray(cv2.dilate(best, window)) != cv2.erode(best, window)).astype(np.uint8)
        labels = np.where(ranks == UNLABELLED, self._enlarged(best), ranks)
        free = (self._enlarged(differs) > 0) & (ranks == UNLABELLED)
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
        # One extra node is joined to the labelled pixels and those around the area, at their cost to a scribble.
        known = np.flatnonzero(~inside)
        beyond = np.where(
            ranks[y[known], x[known]] == UNLABELLED, costs[y[known] // self.scale, x[known] // self.scale], 0
        )
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
        before: For each pixel, the previous pixel on its path. At the first pixel of a path it is negative, or the
            number of pixels.
    """
    own = np.arange(len(before))
    roots = np.where((before < 0) | (before == len(before)), own, before)
    while True:
        further = roots[roots]
        if (further == roots).all():
            return roots
        roots = further
