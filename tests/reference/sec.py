"""The losses of SEC for one image, written from the equations, one number after another."""

from __future__ import annotations

import math

import numpy as np


def rank_pooling(scores: list[float], decay: float, stretch: float = 1.0) -> float:
    """(3): scores of one class; ``stretch`` multiplies the exponents."""
    ordered = sorted(scores, reverse=True)
    weights = [decay ** (j * stretch) for j in range(len(ordered))]
    return sum(w * s for w, s in zip(weights, ordered, strict=True)) / sum(weights)


def expansion(
    probs: np.ndarray,
    tags: list[bool],
    background: int | None,
    decays: tuple[float, float, float],
    map_px: int | None = None,
) -> float:
    """(4) for probs (K,N); decays of present classes, absent ones and background."""
    stretch = 1.0 if map_px is None else map_px / probs.shape[1]
    foreground = [k for k in range(len(probs)) if k != background]
    present = [-math.log(rank_pooling(probs[k], decays[0], stretch)) for k in foreground if tags[k]]
    absent = [-math.log(1 - rank_pooling(probs[k], decays[1], stretch)) for k in foreground if not tags[k]]
    loss = sum(present) / max(1, len(present)) + sum(absent) / max(1, len(absent))
    if background is not None and tags[background]:
        loss -= math.log(rank_pooling(probs[background], decays[2], stretch))
    return loss


def divergence(q: np.ndarray, s: np.ndarray) -> float:
    """(5): the mean over pixels of KL(Q || S), for Q and S (K,N)."""
    total = 0.0
    for j in range(q.shape[1]):
        total += sum(float(q[k, j]) * math.log(q[k, j] / s[k, j]) for k in range(len(q)) if q[k, j] > 0)
    return total / q.shape[1]
