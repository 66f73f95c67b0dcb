"""Propagation of scribbles by mean-field inference in a fully connected CRF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from wss.labels import UNLABELLED
from wss.ops import mean_field
from wss.ops.crf_kernel import CrfKernel
from wss.propagation.propagation import Extra, Propagation, Proposal

_LEAST = 1e-5  # smallest probability: smaller values have no meaning in float16 or from a network


class DenseCRF(CrfKernel, Propagation):
    """Mean-field inference from the scribbles, over the classes that are scribbled in the image.

    A scribbled pixel has its class with probability ``gt_prob``. On other pixels all classes have equal probability, or
    the probabilities of a network, renormalised over these classes. The doubt is 1 minus the probability of the winning
    class.

    Source: Krähenbühl, Koltun: Efficient inference in fully connected CRFs with Gaussian edge potentials, 2011.
    """

    name: Literal["densecrf"] = "densecrf"
    summary: ClassVar[str] = "mean-field inference in a fully connected CRF"
    accepts: ClassVar[frozenset[Extra]] = frozenset({"probs"})

    gt_prob: float = Field(default=0.99, gt=0, lt=1)
    """Probability of the scribbled class at a scribbled pixel. The other classes share the rest equally."""
    iterations: int = Field(default=20, ge=0)
    """Number of mean-field iterations. Each moves labels about as far as the kernels reach."""
    bi_xy_std: float = Field(default=15.0, gt=0)
    """Spatial standard deviation of the bilateral kernel in pixels. If it is large, classes with many scribbled pixels
    suppress the others."""

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
            **self.kernels(),
        )[0]
        best, winner = refined.max(0)
        return Proposal(present[winner.numpy()], 1 - best.double().clamp(0, 1).numpy())

    def _prior(
        self, scribble: NDArray[np.uint8], present: NDArray[np.uint8], probs: NDArray[Any] | None
    ) -> NDArray[np.float32]:
        """Initial probabilities, float32 (len(present),H,W), summing to 1 over the classes."""
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
