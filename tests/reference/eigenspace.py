"""Equations (2), (4), (8), (9) and (10) of RW-SS as they stand, with dense computing matrices and loops."""

from __future__ import annotations

import math

import numpy as np


def transition(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """(N,N) of queries and keys (C,h,w), one entry after the other."""
    flat, other = (maps.reshape(maps.shape[0], -1).T for maps in (queries, keys))
    rows = []
    for query in flat:
        products = [float(query @ key) for key in other]
        top = max(products)
        row = [math.exp(product - top) for product in products]
        rows.append([value / sum(row) for value in row])
    return np.array(rows)


def step_by_cosines(features: np.ndarray, scale: float) -> np.ndarray:
    """P f, (C,h,w), where P is the row softmax of scaled cosines of features (C,h,w)."""
    unit = features / np.sqrt((features**2).sum(0))
    matrix = transition(scale * unit, unit)
    flat = features.reshape(features.shape[0], -1).T
    moved = [sum(chance * f for chance, f in zip(row, flat, strict=True)) for row in matrix]
    return np.array(moved).T.reshape(features.shape)


def exchange(height: int, width: int) -> np.ndarray:
    """The permutation matrix (N,N) that mirrors the positions of each row of the feature map."""
    matrix = np.zeros((height * width, height * width))
    for y in range(height):
        for x in range(width):
            matrix[y * width + x, y * width + width - 1 - x] = 1
    return matrix


def selection(height: int, width: int, rows: int) -> np.ndarray:
    """The matrix (N',N) that keeps the positions of a map without ``rows`` rows at the top, or at the bottom where negative."""
    kept = range(max(rows, 0), height + min(rows, 0))
    matrix = np.zeros((len(kept) * width, height * width))
    for new, y in enumerate(kept):
        for x in range(width):
            matrix[new * width + x, y * width + x] = 1
    return matrix


def transformed(matrix: np.ndarray, height: int, width: int, flip: bool, rows: int) -> np.ndarray:
    """T_r P T_c, rows normalised again."""
    computing = selection(height, width, rows) @ (exchange(height, width) if flip else np.eye(height * width))
    moved = computing @ matrix @ computing.T
    return moved / moved.sum(1, keepdims=True)


def consistency(
    found: np.ndarray, target: np.ndarray, valid: np.ndarray, gamma: float, reverse: bool
) -> list[list[float]]:
    """Divergences of the valid rows, and gamma times the difference of traces over them, for each image: (B,N,N) twice."""
    result = []
    for p, q, rows in zip(found, target, valid, strict=True):
        first, second = (p, q) if reverse else (q, p)
        divergences = [
            sum(a * math.log(a / b) for a, b in zip(first[i], second[i], strict=True)) for i in range(len(p)) if rows[i]
        ]
        trace = sum(p[i, i] for i in range(len(p)) if rows[i]) - sum(q[i, i] for i in range(len(p)) if rows[i])
        result.append([divergences, gamma * math.sqrt(trace**2)])
    return result


def entropy(probs: np.ndarray) -> np.ndarray:
    """(B,H,W) of probabilities (B,K,H,W)."""
    batch, classes, height, width = probs.shape
    result = np.zeros((batch, height, width))
    for b, y, x in np.ndindex(batch, height, width):
        result[b, y, x] = -sum(probs[b, k, y, x] * math.log(probs[b, k, y, x]) for k in range(classes))
    return result
