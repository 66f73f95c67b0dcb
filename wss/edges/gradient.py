"""Edges without learning: changes of colour and texture at several scales."""

from __future__ import annotations

import cv2
import numpy as np

from wss.edges.detector import EdgeMap, Image

SIGMAS_PX = (1.0, 2.0, 4.0)
TEXTURE_WEIGHT = 1.0
STRONG_LAB = 12.0
"""Strength in CIELAB units that becomes an edge value of 1, for images without stronger edges."""
QUANTILE = 0.97
"""For images with more contrast, this quantile of the strengths becomes an edge value of 1."""


def gradient_edges(image: Image) -> EdgeMap:
    """Strength of the gradient of colour and local contrast in CIELAB, averaged over scales.

    At each scale sigma the four channels L, a, b and texture (the local standard deviation of L) are smoothed. The
    strength is sigma times the square root of the largest eigenvalue of their joint structure tensor. It measures the
    change across an edge, not its slope. Weak strengths stay proportional; strong ones saturate at 1.

    Args:
        image: uint8 (H,W,3), RGB.

    Returns:
        Float32 (H,W) in [0,1]; 0 everywhere for a constant image.

    Source: the colour gradient of Di Zenzo 1986; the choice of cues after Martin, Fowlkes and Malik 2004.
    """
    lab: EdgeMap = np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    strength = np.zeros(image.shape[:2], np.float32)
    for sigma in SIGMAS_PX:
        soft = _blur(lab, sigma)
        wide = 2 * sigma
        lightness: EdgeMap = np.ascontiguousarray(lab[..., 0])
        variance = _blur(lightness**2, wide) - _blur(lightness, wide) ** 2
        texture = (TEXTURE_WEIGHT * np.sqrt(np.maximum(variance, 0))).astype(np.float32)
        channels = np.dstack([soft, _blur(texture, sigma)])
        dx = cv2.Scharr(channels, cv2.CV_32F, 1, 0, scale=1 / 32, borderType=cv2.BORDER_REPLICATE)
        dy = cv2.Scharr(channels, cv2.CV_32F, 0, 1, scale=1 / 32, borderType=cv2.BORDER_REPLICATE)
        xx, yy, xy = ((a * b).sum(2) for a, b in ((dx, dx), (dy, dy), (dx, dy)))
        largest = (xx + yy + np.sqrt((xx - yy) ** 2 + 4 * xy * xy)) / 2
        strength += sigma * np.sqrt(largest) / len(SIGMAS_PX)
    full = max(STRONG_LAB, float(np.quantile(strength, QUANTILE)))
    edges: EdgeMap = np.minimum(strength / full, 1).astype(np.float32)
    return edges


def _blur(values: EdgeMap, sigma: float) -> EdgeMap:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)
