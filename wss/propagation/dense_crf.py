"""Scribbles spread by mean-field inference in a fully connected CRF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from wss.ops import mean_field
from wss.propagation.propagation import UNLABELLED, Extra, Propagation, Proposal

_LEAST = 1e-5  # probabilities below are raised to it: float16 and the network know no better


class DenseCRF(Propagation):
    """Mean-field inference from what the scribbles say, over the classes that are scribbled in the image.

    A scribbled pixel has its class with probability ``gt_prob``; elsewhere all classes are equally likely, or as likely as a
    network says, which is renormalised over these classes. The doubt is 1 less the winning class's probability.

    Source: Krähenbühl, Koltun: Efficient inference in fully connected CRFs with Gaussian edge potentials, 2011.
    """

    name: Literal["densecrf"] = "densecrf"
    summary: ClassVar[str] = "mean-field inference in a fully connected CRF"
    accepts: ClassVar[frozenset[Extra]] = frozenset({"probs"})

    gt_prob: float = Field(default=0.99, gt=0, lt=1)
    """Probability of its own class at a scribbled pixel; the other classes share the rest."""
    iterations: int = Field(default=20, ge=0)
    """Mean-field iterations; each carries labels about as far as the kernels reach."""
    pos_weight: float = Field(default=3.0, ge=0)
    """Weight of the smoothness kernel."""
    pos_xy_std: float = Field(default=3.0, gt=0)
    """Its standard deviation in pixels."""
    bi_weight: float = Field(default=10.0, ge=0)
    """Weight of the appearance kernel."""
    bi_xy_std: float = Field(default=15.0, gt=0)
    """Its standard deviation in pixels. Where it is large, classes with much scribble swallow the others."""
    bi_rgb_std: float = Field(default=13.0, gt=0)
    """Its standard deviation in units of 0..255 per channel."""

    def _spread(
        self,
        image: NDArray[np.uint8],
        scribble: NDArray[np.uint8],
        present: NDArray[np.uint8],
        extras: Mapping[Extra, NDArray[Any]],
    ) -> Proposal:
        prior = self._prior(scribble, present, extras.get("probs"))
        refined = mean_field(
            torch.from_numpy(np.log(prior))[None],
            torch.tensor(image).permute(2, 0, 1)[None],
            iterations=self.iterations,
            pos_weight=self.pos_weight,
            pos_xy_std=self.pos_xy_std,
            bi_weight=self.bi_weight,
            bi_xy_std=self.bi_xy_std,
            bi_rgb_std=self.bi_rgb_std,
        )[0]
        best, winner = refined.max(0)
        return Proposal(present[winner.numpy()], 1 - best.double().clamp(0, 1).numpy())

    def _prior(
        self, scribble: NDArray[np.uint8], present: NDArray[np.uint8], probs: NDArray[Any] | None
    ) -> NDArray[np.float32]:
        """float32 (len(present),H,W), summing to 1."""
        count = len(present)
        prior = np.full((count, *scribble.shape), 1 / count, np.float32)
        if probs is not None:
            prior = np.clip(probs[present].astype(np.float32), _LEAST, 1)
            prior /= prior.sum(0)
        if count > 1:
            labelled = scribble != UNLABELLED
            prior[:, labelled] = (1 - self.gt_prob) / (count - 1)
            y, x = np.nonzero(labelled)
            prior[np.searchsorted(present, scribble[labelled]), y, x] = self.gt_prob
        return prior
