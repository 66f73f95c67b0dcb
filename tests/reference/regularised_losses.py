"""The regularised losses and their gradients, written from the equations with explicit N x N affinities in float64."""

from __future__ import annotations

import numpy as np

from tests.reference.dense_gaussian import affinity, features


def dense_affinity(image: np.ndarray, sigma_rgb: float, sigma_xy: float, roi: np.ndarray | None = None) -> np.ndarray:
    """W of an image (3,H,W); rows and columns of pixels outside the region of interest (H,W) are zero."""
    w = affinity(features(image, *image.shape[1:], sigma_xy, sigma_rgb))
    if roi is not None:
        inside = roi.ravel().astype(np.float64)
        w = w * np.outer(inside, inside)
    return w


def crf(s: np.ndarray, w: np.ndarray) -> tuple[float, np.ndarray]:
    """(4) and (11); s is (K,N), zero outside the region of interest."""
    inside = (np.diag(w) > 0).astype(np.float64)
    value = sum(s_k @ w @ (inside - s_k) for s_k in s)
    return value, np.stack([-2 * w @ s_k for s_k in s])


def normalised_cut(s: np.ndarray, w: np.ndarray) -> tuple[float, np.ndarray]:
    """(5) and the second part of (12)."""
    inside = (np.diag(w) > 0).astype(np.float64)
    d = w @ inside
    value = sum((s_k @ w @ (inside - s_k)) / (d @ s_k) for s_k in s)
    gradient = [(s_k @ w @ s_k) * d / (d @ s_k) ** 2 - 2 * w @ s_k / (d @ s_k) for s_k in s]
    return value, np.stack(gradient)
