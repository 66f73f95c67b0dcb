"""Statistics of the steps of a random walk: how far a transition matrix moves features, and to which classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError


@dataclass(frozen=True)
class StepShares:
    """Statistics of steps, as shares in 0..1.

    Attributes:
        stays: Mean probability that a step stays at its position. With 1 the walk changes nothing.
        reach: Mean effective number of targets of a step, exp(entropy of a row), as a share of all positions. With 1
            all features become the mean of the image.
        alike: Probability that a step to another position leads to the same class; the mean over classes with at least
            two positions.
        chance: Value of ``alike`` if all other positions were equally likely.
    """

    stays: float
    reach: float
    alike: float
    chance: float


def step_shares(log_transition: NDArray[np.floating], classes: NDArray[Any]) -> StepShares:
    """Compute the statistics of a transition matrix.

    Args:
        log_transition: log P, float (N,N); the exponentials of a row sum to 1. Logarithms keep probabilities that P
            rounds to 0.
        classes: Class of each position, integers (N,).

    Raises:
        UsageError: The shapes disagree.
    """
    count = len(classes)
    if classes.ndim != 1 or log_transition.shape != (count, count):
        raise UsageError(
            f"expected log P (N,N) and the classes (N,) of its positions, got {log_transition.shape} and {classes.shape}"
        )
    logs = log_transition.astype(np.float64)
    chances = np.exp(logs)
    entropy = -(chances * np.where(chances > 0, logs, 0)).sum(1)
    away = _without_staying(logs)
    shares = []
    for name in np.unique(classes):
        mine = classes == name
        if mine.sum() > 1:
            shares.append((away[np.ix_(mine, mine)].sum(1).mean(), (mine.sum() - 1) / (count - 1)))
    alike, chance = np.mean(shares, axis=0) if shares else (0.0, 0.0)
    return StepShares(
        float(chances.diagonal().mean()), float(np.exp(entropy).mean() / count), float(alike), float(chance)
    )


def _without_staying(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """P without its diagonal, with rows normalised again."""
    away = logs.copy()
    np.fill_diagonal(away, -np.inf)
    if len(away) < 2:
        return np.zeros_like(away)
    away = np.exp(away - away.max(1, keepdims=True))
    normalised: NDArray[np.float64] = away / away.sum(1, keepdims=True)
    return normalised
