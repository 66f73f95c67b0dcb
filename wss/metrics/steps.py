"""Where the steps of a random walk lead: whether a transition matrix moves anything, and to what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wss.errors import UsageError


@dataclass(frozen=True)
class StepShares:
    """Where steps lead, shares in 0..1.

    Attributes:
        stays: Mean probability of a step that stays where it is. At 1 the walk changes nothing.
        reach: Mean number of positions among which a step chooses, exp of a row's entropy, as a share of all. At 1 everything
            becomes the mean of the image.
        alike: Probability that a step to another position leads to one of the same class, mean over classes of two positions or
            more.
        chance: What ``alike`` would be if all other positions were equally likely.
    """

    stays: float
    reach: float
    alike: float
    chance: float


def step_shares(log_transition: NDArray[np.floating], classes: NDArray[Any]) -> StepShares:
    """Describe a transition matrix.

    Args:
        log_transition: log P, float (N,N); the exponentials of a row sum to 1. Logarithms tell where steps lead that P itself
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
    """P without its diagonal, rows normalised again."""
    away = logs.copy()
    np.fill_diagonal(away, -np.inf)
    if len(away) < 2:
        return np.zeros_like(away)
    away = np.exp(away - away.max(1, keepdims=True))
    normalised: NDArray[np.float64] = away / away.sum(1, keepdims=True)
    return normalised
