"""Dense Gaussian affinities and DenseCRF, written from the equations with explicit N x N matrices in float64."""

from __future__ import annotations

import numpy as np


def features(image: np.ndarray | None, height: int, width: int, sigma_xy: float, sigma_rgb: float | None) -> np.ndarray:
    """(H*W, 2 or 5) position and colour over their standard deviations; image is (3,H,W)."""
    columns = [
        [x / sigma_xy for y in range(height) for x in range(width)],
        [y / sigma_xy for y in range(height) for x in range(width)],
    ]
    if sigma_rgb is not None:
        columns += [list(channel.ravel() / sigma_rgb) for channel in image.astype(np.float64)]
    return np.array(columns, dtype=np.float64).T


def affinity(points: np.ndarray) -> np.ndarray:
    """W_pq = exp(-|f_p - f_q|^2 / 2), the diagonal included."""
    difference = points[:, None] - points[None]
    return np.exp(-0.5 * (difference**2).sum(-1))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Over axis 0."""
    shifted = np.exp(scores - scores.max(0))
    return shifted / shifted.sum(0)


def dense_crf(
    logits: np.ndarray, image: np.ndarray, kernels: list[tuple[float, float, float | None]], iterations: int
) -> np.ndarray:
    """Mean-field with exact kernels (weight, sigma_xy, sigma_rgb), each normalised to D^-1/2 W D^-1/2; logits (K,H,W)."""
    classes, height, width = logits.shape
    matrices = []
    for weight, sigma_xy, sigma_rgb in kernels:
        w = affinity(features(image, height, width, sigma_xy, sigma_rgb))
        root = 1 / np.sqrt(w.sum(1))
        matrices.append(weight * root[:, None] * w * root[None])
    unary = logits.reshape(classes, -1).astype(np.float64)
    probs = softmax(unary)
    for _ in range(iterations):
        # Potts: the message to class k is minus the cost of all other classes, which up to a constant is + K Q_k.
        probs = softmax(unary + sum(probs @ m for m in matrices))
    return probs.reshape(classes, height, width)
