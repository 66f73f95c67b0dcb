"""Mean-field updates of a CRF with class-wise kernel weights and compatibilities, pixel by pixel in float64."""

from __future__ import annotations

import numpy as np

from tests.reference.dense_gaussian import affinity, features, softmax


def unrolled_mean_field(
    logits: np.ndarray,
    image: np.ndarray,
    kernels: list[tuple[np.ndarray, float, float | None]],
    compatibility: np.ndarray,
    iterations: int,
    *,
    rows: bool = False,
    roi: np.ndarray | None = None,
) -> np.ndarray:
    """Probabilities (K,H,W); kernels are (weights (K,), sigma_xy, sigma_rgb), roi is bool (H,W)."""
    classes, height, width = logits.shape
    pixels = height * width
    inside = np.ones(pixels, bool) if roi is None else roi.ravel()
    normalised = []
    for weights, sigma_xy, sigma_rgb in kernels:
        w = affinity(features(image, height, width, sigma_xy, sigma_rgb))
        k = np.zeros_like(w)
        degrees = [sum(w[p, q] for q in range(pixels) if inside[q]) for p in range(pixels)]
        for p in range(pixels):
            for q in range(pixels):
                if inside[p] and inside[q]:
                    k[p, q] = w[p, q] / (degrees[p] if rows else np.sqrt(degrees[p] * degrees[q]))
        normalised.append((weights, k))
    unary = logits.reshape(classes, pixels).astype(np.float64)
    q = softmax(unary)
    for _ in range(iterations):
        scores = unary.copy()
        for k in range(classes):
            for other in range(classes):
                for weights, matrix in normalised:
                    scores[k] -= compatibility[k, other] * weights[other] * (matrix @ q[other])
        q = softmax(scores)
    return q.reshape(classes, height, width)
