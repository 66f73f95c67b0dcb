"""Equation (3) of BPG as a mean over pixels, by loops."""

from __future__ import annotations

import numpy as np


def boundary_loss(predicted: np.ndarray, edges: np.ndarray, valid: np.ndarray) -> float:
    """All (B,H,W)."""
    errors = [(float(predicted[p]) - float(edges[p])) ** 2 for p in np.ndindex(*valid.shape) if valid[p]]
    return sum(errors) / len(errors)
