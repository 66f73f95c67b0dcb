"""Propagation of scribbles over superpixels by alpha-expansion."""

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
_STEEPEST = 64.0  # larger grey-value differences over two pixels are clipped to this
_LEAST = 1e-5  # smallest probability: smaller values have no meaning in float16 or from a network


class GraphCut(Propagation):
    """Labels of superpixels that minimise ScribbleSup's energy, by alpha-expansion.

    A superpixel with scribbles has their most frequent class. A superpixel without scribbles can have any class that is
    scribbled in the image. All these classes cost the same, or, if a network's probabilities P are given, -log P of its
    pixels. Neighbouring superpixels i, j with different labels cost ``smoothness`` times

        exp(-|c_i - c_j|^2 / sigma_colour^2 - |t_i - t_j|^2 / sigma_texture^2)

    Here c are the histograms of the three colour channels (25 bins each), and t the histograms of the horizontal and
    vertical differences of grey values (10 bins each).

    Without a network, ``smoothness`` has no effect unless it is 0. Then superpixels do not interact, and all
    superpixels without scribbles get the first scribbled class of the image, which is the background in most data sets.

    ``energy: published`` sets the paper's values: ``unary: sum``, ``histograms: joint``, ``smoothness: 1``,
    ``sigma_colour: 5``, ``sigma_texture: 10`` and ``border: false``. Parameters that are given explicitly win.

    Source: Lin, Dai, Jia, He, Sun: ScribbleSup, 2016, section 3.
    Differs: by default the network's cost is the mean over a superpixel, which does not depend on the size of the
        image. Costs grow with the length of the common border. Histograms are compared by their running sums, so a
        small change of brightness is a small distance. The published cost log n of a superpixel without scribbles, with
        n scribbled classes, is equal for all classes and therefore left out. The paper gives neither the norm of the
        histograms nor the bin edges of the differences. Here a histogram sums to 1; all costs of the published energy
        then lie between 0.96 and 1. With pixel counts they would be about 0.
    """

    name: Literal["graph-cut"] = "graph-cut"
    summary: ClassVar[str] = "ScribbleSup's energy on superpixels, by alpha-expansion"
    needs: ClassVar[frozenset[Extra]] = frozenset({"superpixels"})
    accepts: ClassVar[frozenset[Extra]] = frozenset({"probs"})

    energy: Literal["ours", "published"] = Field(default="ours", json_schema_extra=LATER)
    """``published``: the paper's energy, with other defaults of ``unary``, ``histograms``, ``smoothness``,
    ``sigma_colour``, ``sigma_texture`` and ``border``."""
    unary: Literal["mean", "sum"] = Field(default="mean", json_schema_extra=LATER)
    """Network's cost of a superpixel: the ``mean`` or the ``sum`` over its pixels. Published: sum."""
    histograms: Literal["cumulative", "joint"] = "cumulative"
    """Comparison of histograms. ``cumulative``: by the running sums of each histogram, which sums to 1. ``joint``: bin
    by bin; all colour bins together sum to 1, and all texture bins together. Published: joint."""
    smoothness: float = Field(default=1.0, ge=0)
    """Weight of the cost of different labels, relative to the network's cost. A larger value gives fewer label changes.
    Published: 1."""
    sigma_colour: float = Field(default=1.5, gt=0)
    """Distance of colour histograms at which the cost falls to 1/e. Published: 5."""
    sigma_texture: float = Field(default=1.0, gt=0)
    """Distance of texture histograms at which the cost falls to 1/e. Published: 10."""
    border: bool = True
    """Multiply the cost by the length of the common border, in units of the image's mean length. Published: false."""
    iterations: int = Field(default=10, ge=1)
    """Largest number of rounds of expansion moves."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        """Fill in the values of the named energy."""
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
        """Costs of different labels of neighbouring superpixels.

        Args:
            image: uint8 (H,W,3), RGB.
            superpixels: Integers (H,W), contiguous ids from 0.

        Returns:
            Pairs int64 (E,2), lower id first, in lexical order; and their costs float64 (E,), not negative.
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
    """Histograms of colour (count, 75) and of grey-value differences (count, 20). Each single histogram sums to 1."""
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
    """Running sums within each histogram of a row, of the same shape."""
    sums: NDArray[np.float64] = histograms.reshape(len(histograms), -1, bins).cumsum(2).reshape(histograms.shape)
    return sums
