"""Propagation of scribbles by a linear classifier on the features of a frozen network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from wss.errors import DataError
from wss.labels import UNLABELLED
from wss.propagation.propagation import Extra, Propagation, Proposal


class FeatureHead(Propagation):
    """Multinomial logistic regression on stored features, trained on an image's scribbled cells, applied to all cells.

    Each cell of the features covers a square of pixels. A cell with scribbles of several classes counts for each class
    by its share. All classes have equal weight, independent of the number of their scribbled pixels. Features are
    standardised over the image. Probabilities are interpolated between cells. The doubt is 1 minus the probability of
    the label.
    """

    name: Literal["features"] = "features"
    summary: ClassVar[str] = "a linear classifier on stored features, trained on the image's scribbles"
    needs: ClassVar[frozenset[Extra]] = frozenset({"features"})

    decay: float = Field(default=0.01, gt=0)
    """Factor of the L2 penalty, half the sum of squared weights, relative to the mean cross-entropy. A larger value
    gives less certain probabilities."""
    iterations: int = Field(default=100, ge=1)
    """Largest number of L-BFGS iterations."""

    def _spread(
        self,
        image: NDArray[np.uint8],
        scribble: NDArray[np.uint8],
        present: NDArray[np.uint8],
        extras: Mapping[Extra, NDArray[Any]],
    ) -> Proposal:
        features = np.ascontiguousarray(extras["features"], np.float32)
        side = _cell(scribble.shape, features.shape[1:])
        rows, columns = features.shape[1:]
        flat = features.reshape(len(features), -1).T
        flat = (flat - flat.mean(0)) / (flat.std(0) + 1e-6)
        y, x = np.nonzero(scribble != UNLABELLED)
        places = (y // side) * columns + x // side
        codes = places * len(present) + np.searchsorted(present, scribble[y, x])
        votes = np.bincount(codes, minlength=rows * columns * len(present)).reshape(-1, len(present)).astype(np.float64)
        used = np.flatnonzero(votes.any(1))
        share = votes[used] / votes[used].sum(1, keepdims=True)
        probs = self._classified(flat, flat[used], share / (share.sum(0) * len(present)))
        grid = np.ascontiguousarray(probs.T.reshape(len(present), rows, columns), np.float32)
        size = (columns * side, rows * side)
        large = np.stack([np.asarray(cv2.resize(one, size))[: scribble.shape[0], : scribble.shape[1]] for one in grid])
        ordered = np.sort(grid, axis=0)
        margin = ordered[-1] - ordered[-2] if len(present) > 1 else ordered[-1]
        return Proposal(present[large.argmax(0)], 1 - large.max(0).astype(np.float64).clip(0, 1), margin, side)

    def _classified(
        self, everything: NDArray[np.float32], known: NDArray[np.float32], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Probabilities (N,L) of all cells (N,C). ``known`` are labelled cells (M,C); their weights (M,L) sum to 1."""
        x, targets = torch.from_numpy(known).double(), torch.from_numpy(weights)
        scale = x.shape[1] ** -0.5
        head = torch.zeros(x.shape[1] + 1, targets.shape[1], dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([head], max_iter=self.iterations, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimiser.zero_grad()
            logits = scale * x @ head[:-1] + head[-1]
            value: torch.Tensor = -(targets * logits.log_softmax(1)).sum() + self.decay / 2 * (head[:-1] ** 2).sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimiser.step(loss)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            logits = scale * torch.from_numpy(everything).double() @ head[:-1] + head[-1]
            return np.asarray(logits.softmax(1))


def _cell(image: tuple[int, ...], cells: tuple[int, ...]) -> int:
    """Side of a cell in pixels: the largest whole number for which this number of cells covers the image.

    Raises:
        DataError: There is no such number.
    """
    height, width = image
    for side in range(max(height, width), 0, -1):
        if (-(-height // side), -(-width // side)) == cells:
            return side
    raise DataError(
        f"propagation: features of {cells[0]}x{cells[1]} cells do not cover an image of {height}x{width} pixels"
    )
