"""Scribbles spread by random walks that avoid boundaries."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from wss.ops import colour_gradient
from wss.ops.coarse_walk import CoarseWalk
from wss.params import LATER
from wss.propagation.propagation import UNLABELLED, Extra, Propagation, Proposal


class RandomWalk(Propagation):
    """Each pixel gets the class whose scribble a random walk from it most probably meets first; the doubt is 1 less
    that probability.

    ``hitting`` is the walk of RAWKS: crossing a pixel costs its boundary score, ``strength`` times the edge there to the power
    ``power``. Edges are those given, or else the gradient of the smoothed image in CIELAB, relative to the spread of its
    colours. ``skimage`` is scikit-image's walker, whose steps are weighed by the difference of the two pixels and which
    loses no walk at the image's border.

    Source: Vernaza, Chandraker 2017, "Learning Random-Walk Label Propagation for Weakly-Supervised Semantic Segmentation", (4)
        to (8); Grady 2006, "Random walks for image segmentation".
    Differs: Vernaza and Chandraker learn the boundaries.
    """

    name: Literal["random-walk"] = "random-walk"
    summary: ClassVar[str] = "probability that a random walk meets a class's scribble first"
    accepts: ClassVar[frozenset[Extra]] = frozenset({"edges"})

    model: Literal["hitting", "skimage"] = "hitting"
    """Which walk."""
    strength: float = Field(default=1e6, ge=0)
    """Of ``hitting``: boundary score of an edge of 1: a gradient of one standard deviation of the colours per pixel."""
    power: float = Field(default=4.0, gt=0)
    """Of ``hitting``: above 1, weak edges count for less. Chosen, like the strength, on training images of cardiac MRI with human
    scribbles; on photographs with simulated ones it gains even more over 2, which lets texture stop walks."""
    smooth_px: float = Field(default=0.5, ge=0)
    """Of ``hitting``: standard deviation of the smoothing before the gradient; 0 is none."""
    nodes: int | None = Field(default=None, ge=1000, json_schema_extra=LATER)
    """Of ``hitting``: most nodes of the grid on which the walk is solved; ends of labels are then found for each pixel along
    cheapest paths (``CoarseWalk``). None: a node for every pixel."""
    beta: float = Field(default=120.0, gt=0)
    """Of ``skimage``: the higher, the harder it is to cross a difference. For values in 0..1."""
    mode: Literal["bf", "cg", "cg_j", "cg_mg"] = "bf"
    """Of ``skimage``: the solver. ``bf`` is exact; ``cg_mg`` needs pyamg."""

    def _spread(
        self,
        image: NDArray[np.uint8],
        scribble: NDArray[np.uint8],
        present: NDArray[np.uint8],
        extras: Mapping[Extra, NDArray[Any]],
    ) -> Proposal:
        if self.model == "hitting":
            return self.walked(self.prepared(image, extras.get("edges")), scribble, present)
        probs = self._skimage(image, scribble, present)
        return Proposal(present[probs.argmax(0)], 1 - probs.max(0).clip(0, 1))

    def prepared(self, image: NDArray[np.uint8], edges: NDArray[Any] | None) -> CoarseWalk:
        """What ``hitting`` needs of an image, whatever its scribbles.

        Args:
            image: uint8 (H,W,3), RGB.
            edges: floating point (H,W), an edge map in 0..1; None takes the gradient.
        """
        strengths = _gradient(image, self.smooth_px) if edges is None else edges.astype(np.float64)
        return CoarseWalk(self.strength * strengths**self.power, self.nodes or strengths.size)

    def walked(self, walk: CoarseWalk, scribble: NDArray[np.uint8], present: NDArray[np.uint8]) -> Proposal:
        """Spread scribbles by ``hitting``.

        Args:
            walk: See ``prepared``.
            scribble: uint8 (H,W), 255 = unlabelled.
            present: The classes in it, ascending.
        """
        found = walk.solve(_ranked(scribble, present), len(present))
        ordered = np.sort(found.probs, axis=0)
        best = ordered[-1].clip(0, 1)
        if found.scale > 1:
            size = (best.shape[1] * found.scale, best.shape[0] * found.scale)
            best = np.asarray(cv2.resize(best, size))[: scribble.shape[0], : scribble.shape[1]]
            best = np.where(scribble == UNLABELLED, best, 1)
        margin = ordered[-1] - (ordered[-2] if len(present) > 1 else 0)
        return Proposal(present[found.ranks], 1 - best, margin.astype(np.float32), found.scale)

    def _skimage(
        self, image: NDArray[np.uint8], scribble: NDArray[np.uint8], present: NDArray[np.uint8]
    ) -> NDArray[Any]:
        if len(present) == 1 or (scribble != UNLABELLED).all():  # which it refuses
            return (
                np.stack([scribble == label for label in present])
                if len(present) > 1
                else np.ones((1, *scribble.shape))
            )
        from skimage.segmentation import random_walker

        ranks = _ranked(scribble, present)
        seeds = np.where(ranks == UNLABELLED, 0, ranks + 1)
        values = image / 255.0
        colour = (image != image[..., :1]).any()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about which solver would be faster
            probs = random_walker(
                values if colour else values[..., 0],
                seeds,
                beta=self.beta,
                mode=self.mode,
                channel_axis=-1 if colour else None,
                return_full_prob=True,
            )
        return np.asarray(probs)


def _ranked(scribble: NDArray[np.uint8], present: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scribbles as places in ``present``."""
    places = np.full(256, UNLABELLED, np.uint8)
    places[present] = np.arange(len(present))
    return places[scribble]


def _gradient(image: NDArray[np.uint8], sigma: float) -> NDArray[np.float64]:
    rgb = torch.tensor(image, dtype=torch.float64).permute(2, 0, 1)[None]
    return np.asarray(colour_gradient(rgb, smooth_px=sigma)[0])
