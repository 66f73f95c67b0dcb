"""Scribbles spread over superpixels by alpha-expansion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from wss.ops.graph_cut import alpha_expansion
from wss.ops.regions import region_graph, region_means
from wss.params import LATER
from wss.propagation.propagation import Extra, Propagation, Proposal
from wss.propagation.scribbled_superpixels import majority

COLOUR_BINS = 25
TEXTURE_BINS = 10
PUBLISHED: dict[str, Any] = {
    "unary": "sum",
    "histograms": "joint",
    "smoothness": 1.0,
    "sigma_colour": 5.0,
    "sigma_texture": 10.0,
    "border": False,
}
"""ScribbleSup's energy, as far as it is published."""
_STEEPEST = 64.0  # larger differences over two pixels count as this
_LEAST = 1e-5  # probabilities below are raised to it: float16 and the network know no better


class GraphCut(Propagation):
    """The label of each superpixel that minimises ScribbleSup's energy, by alpha-expansion.

    A superpixel with scribbles has their class (the most frequent of several). One without may have any class that is scribbled
    in the image, all at the same cost, or at the cost -log P of its pixels where a network's probabilities P are given.
    Neighbouring superpixels i, j with different labels cost ``smoothness`` times

        exp(-|c_i - c_j|^2 / sigma_colour^2 - |t_i - t_j|^2 / sigma_texture^2)

    where c joins the histograms of the three colour channels (25 bins each) and t those of the horizontal and the vertical
    differences of grey values (10 bins each).

    Without a network ``smoothness`` changes nothing unless it is 0: then no superpixel knows its neighbours, and all without
    scribbles have the first class that is scribbled in the image, which is the background in most data sets.

    ``energy: published`` sets what the paper gives: ``unary: sum``, ``histograms: joint``, ``smoothness: 1``,
    ``sigma_colour: 5``, ``sigma_texture: 10`` and ``border: false``. A parameter that is given beside it wins.

    Source: Lin, Dai, Jia, He, Sun: ScribbleSup, 2016, section 3.
    Differs: by default the network's cost is the mean over a superpixel, which does not depend on the image's size; costs grow
        with the common border; and histograms are compared by their running sums, so that a small change of brightness is a
        small distance. The published cost log n of a superpixel without scribbles, for n scribbled classes, is the same for
        all of them and left out. Not published are the norm of the histograms and the edges of the bins for differences. Here
        a histogram sums to 1; then all costs of the published energy lie between 0.96 and 1. With counts of pixels they would
        be about 0.
    """

    name: Literal["graph-cut"] = "graph-cut"
    summary: ClassVar[str] = "ScribbleSup's energy on superpixels, by alpha-expansion"
    needs: ClassVar[frozenset[Extra]] = frozenset({"superpixels"})
    accepts: ClassVar[frozenset[Extra]] = frozenset({"probs"})

    energy: Literal["ours", "published"] = Field(default="ours", json_schema_extra=LATER)
    """``published``: the paper's energy, which is other defaults for ``unary``, ``histograms``, ``smoothness``,
    ``sigma_colour``, ``sigma_texture`` and ``border``."""
    unary: Literal["mean", "sum"] = Field(default="mean", json_schema_extra=LATER)
    """The network's cost of a superpixel: the mean over its pixels, or their sum. Published: sum."""
    histograms: Literal["cumulative", "joint"] = "cumulative"
    """``cumulative``: running sums of the histogram of each channel and direction, which sums to 1. ``joint``: bin by bin, where
    all bins of colour together sum to 1, and all of texture. Published: joint."""
    smoothness: float = Field(default=1.0, ge=0)
    """Weight of the cost of different labels beside the network's. Published: 1."""
    sigma_colour: float = Field(default=1.5, gt=0)
    """Distance of colour histograms at which the cost has fallen to 1/e. Published: 5."""
    sigma_texture: float = Field(default=1.0, gt=0)
    """The same for the histograms of differences. Published: 10."""
    border: bool = True
    """Multiply the cost by the length of the common border, in units of the image's mean. Published: false."""
    iterations: int = Field(default=10, ge=1)
    """Largest number of rounds of expansion moves."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        """Fill in what the named energy sets."""
        if isinstance(values, dict) and values.get("energy") == "published":
            return PUBLISHED | values
        return values

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
            if self.unary == "sum":
                costs = costs * np.bincount(superpixels.ravel(), minlength=count)[:, None]
        scribbled = majority(superpixels, scribble, present, count)
        fixed = scribbled >= 0
        costs[fixed] = np.inf
        costs[fixed, scribbled[fixed]] = 0
        edges, weights = self.pairwise(image, superpixels)
        return Proposal(present[alpha_expansion(costs, edges, weights, iterations=self.iterations)][superpixels])

    def pairwise(
        self, image: NDArray[np.uint8], superpixels: NDArray[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """What different labels of neighbouring superpixels cost.

        Args:
            image: uint8 (H,W,3), RGB.
            superpixels: integers (H,W), contiguous ids from 0.

        Returns:
            Pairs int64 (E,2), the lower id first, in lexical order; and their costs float64 (E,), not negative.
        """
        edges, lengths = region_graph(superpixels)
        colour, texture = superpixel_features(image, superpixels, int(superpixels.max()) + 1)
        if self.histograms == "cumulative":
            colour, texture = _running_sums(colour, COLOUR_BINS), _running_sums(texture, TEXTURE_BINS)
        else:
            colour, texture = colour * COLOUR_BINS / colour.shape[1], texture * TEXTURE_BINS / texture.shape[1]
        i, j = edges.T
        distance = ((colour[i] - colour[j]) ** 2).sum(1) / self.sigma_colour**2
        distance += ((texture[i] - texture[j]) ** 2).sum(1) / self.sigma_texture**2
        costs: NDArray[np.float64] = self.smoothness * np.exp(-distance)
        return edges, costs * (lengths / lengths.mean()) if self.border and len(lengths) else costs


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


def _running_sums(histograms: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Running sums of each histogram of a row, like the rows."""
    sums: NDArray[np.float64] = histograms.reshape(len(histograms), -1, bins).cumsum(2).reshape(histograms.shape)
    return sums
