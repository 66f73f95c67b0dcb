"""The gated CRF energy and its gradient, written from the equation pixel by pixel in float64."""

from __future__ import annotations

import numpy as np


def gated_crf(
    s: np.ndarray,
    image: np.ndarray,
    radius: int,
    sigmas: tuple[float, float],
    weights: tuple[float, float],
    sources: np.ndarray,
    destinations: np.ndarray,
) -> tuple[float, np.ndarray]:
    """Sum over destinations, not divided, of s (K,H,W), with its gradient.

    Args:
        s: Soft segments.
        image: (3,H,W).
        radius: Of the window.
        sigmas: In colour and in pixels.
        weights: Of the kernel of colour and position, and of position alone.
        sources: bool (H,W).
        destinations: bool (H,W).
    """
    height, width = s.shape[1:]
    image = image.astype(np.float64)
    value, gradient = 0.0, np.zeros_like(s)
    for y in range(height):
        for x in range(width):
            for v in range(height):
                for u in range(width):
                    inside = abs(v - y) <= radius and abs(u - x) <= radius and (v, u) != (y, x)
                    if not (inside and destinations[y, x] and sources[v, u]):
                        continue
                    place = ((v - y) ** 2 + (u - x) ** 2) / (2 * sigmas[1] ** 2)
                    colour = ((image[:, y, x] - image[:, v, u]) ** 2).sum() / (2 * sigmas[0] ** 2)
                    k = weights[0] * np.exp(-place - colour) + weights[1] * np.exp(-place)
                    value += k * (1 - s[:, y, x] @ s[:, v, u])
                    gradient[:, y, x] -= k * s[:, v, u]
                    gradient[:, v, u] -= k * s[:, y, x]
    return value, gradient
