"""Scribbles spread over superpixels by alpha-expansion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wss.ops.graph_cut import alpha_expansion
from wss.ops.regions import region_graph, region_means
from wss.propagation.propagation import Extra, Propagation, Proposal
from wss.propagation.scribbled_superpixels import majority

COLOUR_BINS = 25
TEXTURE_BINS = 10
_STEEPEST = 64.0  # larger differences over two pixels count as this
_LEAST = 1e-5  # probabilities below are raised to it: float16 and the network know no better


class GraphCut(Propagation):
    """The label of each superpixel that minimises ScribbleSup's energy, by alpha-expansion.

    A superpixel with scribbles has their class (the most frequent of several); one without may have any class that is scribbled
    in the image, all at the same cost, or at the mean -log P of its pixels where a network's probabilities P are given.
    Neighbouring superpixels i, j with different labels cost ``smoothness`` times

        exp(-|c_i - c_j|^2 / sigma_colour^2 - |t_i - t_j|^2 / sigma_texture^2)

    where c joins the histograms of the three colour channels (25 bins each) and t those of the horizontal and the vertical
    differences of grey values (10 bins each), every histogram summing to 1.

    Source: Lin, Dai, Jia, He, Sun: ScribbleSup, 2016, section 3.
    Differs: Costs grow with the common border (``border``), and the network's is the mean over a superpixel instead of the
        sum, which does not depend on the image's size. Published are sigma 5 and 10 for colour and texture, with which the
        cost of histograms that sum to 1 is nearly constant; edges of the bins for differences are ours.
    """

    name: Literal["graph-cut"] = "graph-cut"
    summary: ClassVar[str] = "ScribbleSup's energy on superpixels, by alpha-expansion"
    needs: ClassVar[frozenset[Extra]] = frozenset({"superpixels"})
    accepts: ClassVar[frozenset[Extra]] = frozenset({"probs"})

    smoothness: float = Field(default=1.0, ge=0)
    """Weight of the cost of different labels beside the network's."""
    sigma_colour: float = Field(default=1.0, gt=0)
    """Distance of colour histograms at which the cost has fallen to 1/e."""
    sigma_texture: float = Field(default=1.0, gt=0)
    """The same for the histograms of differences."""
    border: bool = True
    """Multiply the cost by the length of the common border, in units of the image's mean; the paper does not."""
    iterations: int = Field(default=10, ge=1)
    """Largest number of rounds of expansion moves."""

    def _spread(
        self,
        image: NDArray[np.uint8],
        scribble: NDArray[np.uint8],
        present: NDArray[np.uint8],
        extras: Mapping[Extra, NDArray[Any]],
    ) -> Proposal:
        superpixels = extras["superpixels"]
        count = int(superpixels.max()) + 1
        costs = np.zeros((count, len(present)))
        if "probs" in extras:
            probs = np.clip(extras["probs"][present].astype(np.float32), _LEAST, 1)
            costs = region_means(superpixels, -np.log(probs))
        scribbled = majority(superpixels, scribble, present, count)
        fixed = scribbled >= 0
        costs[fixed] = np.inf
        costs[fixed, scribbled[fixed]] = 0
        edges, lengths = region_graph(superpixels)
        weights = self.smoothness * self._similarity(image, superpixels, count, edges)
        if self.border and len(lengths):
            weights = weights * (lengths / lengths.mean())
        return Proposal(present[alpha_expansion(costs, edges, weights, iterations=self.iterations)][superpixels])

    def _similarity(
        self, image: NDArray[np.uint8], superpixels: NDArray[Any], count: int, edges: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """(E,), in 0..1."""
        colour, texture = superpixel_features(image, superpixels, count)
        i, j = edges.T
        distance = ((colour[i] - colour[j]) ** 2).sum(1) / self.sigma_colour**2
        distance += ((texture[i] - texture[j]) ** 2).sum(1) / self.sigma_texture**2
        similarity: NDArray[np.float64] = np.exp(-distance)
        return similarity


def superpixel_features(
    image: NDArray[np.uint8], superpixels: NDArray[Any], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Histograms of colour (count, 75) and of differences (count, 20); each histogram in them sums to 1."""
    colours = np.moveaxis(image.astype(np.int64) * COLOUR_BINS // 256, 2, 0)
    grey = image.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    padded = np.pad(grey, 1, mode="edge")
    differences = (padded[1:-1, 2:] - padded[1:-1, :-2], padded[2:, 1:-1] - padded[:-2, 1:-1])
    scaled = [(np.clip(d / _STEEPEST, -1, 1) + 1) / 2 * TEXTURE_BINS for d in differences]
    textures = [np.minimum(s.astype(np.int64), TEXTURE_BINS - 1) for s in scaled]
    return (
        np.concatenate([_histograms(superpixels, c, COLOUR_BINS, count) for c in colours], 1),
        np.concatenate([_histograms(superpixels, t, TEXTURE_BINS, count) for t in textures], 1),
    )


def _histograms(superpixels: NDArray[Any], bins: NDArray[np.int64], number: int, count: int) -> NDArray[np.float64]:
    codes = superpixels.astype(np.int64) * number + bins
    counts = np.bincount(codes.ravel(), minlength=count * number).reshape(count, number)
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return shares
