"""Propagation of scribbles by GrabCut, each class against the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wss.labels import UNLABELLED
from wss.propagation.propagation import Extra, Propagation, Proposal


class GrabCut(Propagation):
    """OpenCV's GrabCut once per class: the scribbles of the class against those of all other classes.

    The foreground colour model starts from the pixels whose nearest scribble is of the class, the background model from
    all other pixels. A pixel that exactly one class claims gets this class. If several classes claim it, or none, it
    gets the class of the nearest scribble of the claiming classes, or of all classes. The doubt is the share of the
    cuts that disagree with the label. If only one class is scribbled, it covers the image.

    Source: Rother, Kolmogorov, Blake: GrabCut, 2004; the baseline of Tang et al., On Regularized Losses, 2018, table 2.
    Differs: Neither paper states how several classes are combined, nor how GrabCut is initialised.
    """

    name: Literal["grabcut"] = "grabcut"
    summary: ClassVar[str] = "OpenCV's GrabCut, each class against the rest"

    iterations: int = Field(default=5, ge=1)
    """Number of rounds; each fits the colour models and computes a cut."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Random seed of the clustering that initialises the colour models."""

    def _spread(
        self,
        image: NDArray[np.uint8],
        scribble: NDArray[np.uint8],
        present: NDArray[np.uint8],
        extras: Mapping[Extra, NDArray[Any]],
    ) -> Proposal:
        if len(present) == 1:
            return Proposal(np.full(scribble.shape, present[0]), np.zeros(scribble.shape))
        distances = np.stack([_distance(scribble == label) for label in present])
        nearest = distances.argmin(0)
        claims = np.stack([self._cut(image, scribble, label, nearest == n) for n, label in enumerate(present)])
        candidates = claims | ~claims.any(0)
        winner = np.where(candidates, distances, np.inf).argmin(0)
        agreeing = np.zeros(scribble.shape)
        for n, claim in enumerate(claims):
            agreeing += claim == (winner == n)
        return Proposal(present[winner], 1 - agreeing / len(present))

    def _cut(
        self, image: NDArray[np.uint8], scribble: NDArray[np.uint8], label: int, near: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Pixels that one class claims. Both sides need at least one scribbled pixel, otherwise OpenCV fails."""
        mask = np.where(near, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        mask[scribble != UNLABELLED] = cv2.GC_BGD
        mask[scribble == label] = cv2.GC_FGD
        cv2.setRNGSeed(self.seed)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(image, mask, (0, 0, 0, 0), *models, self.iterations, cv2.GC_INIT_WITH_MASK)
        claimed: NDArray[np.bool_] = (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)
        return claimed


def _distance(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance to the nearest True pixel in pixels; at least one must exist."""
    outside = (~inside).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
