"""Random-walk hitting probabilities and the RAWKS loss from the equations, in extended precision, by dense elimination."""

from __future__ import annotations

import math

import numpy as np

UNLABELLED = 255


def partition_functions(boundary: np.ndarray, scribble: np.ndarray, num_classes: int) -> np.ndarray:
    """Z (K,H,W) of 4 exp(B_x) Z_xl = sum of Z_x'l over the neighbours, numpy's longdouble; no row may be cut off.

    Elimination without pivoting: the matrix is a diagonally dominant M-matrix, nothing cancels. The exponents of longdouble
    (x86: 1e-4932 to 1e4932) replace any scaling.
    """
    height, width = boundary.shape
    count = height * width
    matrix = np.zeros((count, count), dtype=np.longdouble)
    rhs = np.zeros((count, num_classes), dtype=np.longdouble)
    for y in range(height):
        for x in range(width):
            row = y * width + x
            if scribble[y, x] != UNLABELLED:
                matrix[row, row] = 1
                rhs[row, scribble[y, x]] = 1
                continue
            matrix[row, row] = 4 * np.exp(np.longdouble(boundary[y, x]))
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < height and 0 <= u < width:
                    matrix[row, v * width + u] = -1
    for pivot in range(count):
        below = pivot + 1 + np.flatnonzero(matrix[pivot + 1 :, pivot])
        factor = matrix[below, pivot] / matrix[pivot, pivot]
        matrix[below, pivot:] -= factor[:, None] * matrix[pivot, pivot:]
        rhs[below] -= factor[:, None] * rhs[pivot]
    for pivot in reversed(range(count)):
        rhs[pivot] = (rhs[pivot] - matrix[pivot, pivot + 1 :] @ rhs[pivot + 1 :]) / matrix[pivot, pivot]
    return rhs.T.reshape(num_classes, height, width)


def hitting_probabilities(boundary: np.ndarray, scribble: np.ndarray, num_classes: int) -> np.ndarray:
    """P (K,H,W), longdouble."""
    z = partition_functions(boundary, scribble, num_classes)
    return z / z.sum(0)


def gradient(boundary: np.ndarray, scribble: np.ndarray, weights: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Of sum(weights * P) with respect to B (H,W), by central differences."""
    result = np.zeros(boundary.shape, dtype=np.longdouble)
    for at in np.ndindex(boundary.shape):
        values = []
        for sign in (1, -1):
            moved = boundary.astype(np.longdouble)
            moved[at] += sign * np.longdouble(step)
            values.append((weights * hitting_probabilities(moved, scribble, len(weights))).sum())
        result[at] = (values[0] - values[1]) / (2 * np.longdouble(step))
    return result


def loss_map(probs: np.ndarray, logits: np.ndarray, alpha: float) -> np.ndarray:
    """Summands of (11), (H,W), for one image (K,H,W)."""
    classes, height, width = probs.shape
    result = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            p = [float(probs[k, y, x]) for k in range(classes)]
            scores = [float(logits[k, y, x]) for k in range(classes)]
            total = sum(math.exp(s) for s in scores)
            entropy = -sum(v * math.log(v) for v in p if v > 0)
            divergence = sum(v * math.log(v / (math.exp(s) / total)) for v, s in zip(p, scores, strict=True) if v > 0)
            result[y, x] = math.exp(-alpha * entropy) * divergence + entropy
    return result
