"""The kernel cut loss: dense CRF loss plus normalised cut loss."""

from __future__ import annotations

import torch
from torch import Tensor

from wss.errors import UsageError
from wss.losses.dense_crf import cut
from wss.losses.normalized_cut import normalised_cuts
from wss.losses.pairwise import Units, Variant, soft_segments, with_gradient
from wss.ops.bilateral import Backend


def kernel_cut_loss(
    probs: Tensor,
    images: Tensor,
    *,
    gamma: float,
    sigma_rgb: float = 15.0,
    sigma_xy: float = 100.0,
    nc_sigma_rgb: float | None = None,
    nc_sigma_xy: float | None = None,
    roi: Tensor | None = None,
    labels: Tensor | None = None,
    variant: Variant = "plain",
    units: Units = "normalised",
    scale: float = 1.0,
    backend: Backend = "auto",
    exact: bool = False,
) -> Tensor:
    """CRF loss plus gamma times normalised cut loss.

    Args:
        probs: S, float (B,K,H,W), in 0..1 and summing to 1 over K. Half precision is computed in float32.
        images: (B,3,H,W) RGB in 0-255, any dtype, not normalised.
        gamma: Weight of the normalised cut, >= 0, relative to the CRF loss in the chosen units. No value is published.
            In ``paper`` units the CRF loss is about -1e8 to -5e8 at crops of 321. If the whole loss has the weight w,
            then gamma = g / w gives the normalised cut the weight g.
        sigma_rgb: Standard deviation of the CRF's affinity in colour, 0-255 units.
        sigma_xy: Standard deviation of the CRF's affinity in pixels of the full-size image.
        nc_sigma_rgb: Like ``sigma_rgb`` for the normalised cut. None uses ``sigma_rgb``.
        nc_sigma_xy: Like ``sigma_xy`` for the normalised cut. None uses ``sigma_xy``. If both values are shared, the
            filter runs once instead of twice.
        roi: bool (B,H,W), True on the image, False on padding, which the filter leaves out. None means True everywhere.
        labels: int64 (B,H,W), 255 = unlabelled; the variant ``clamped`` needs them.
        variant: ``plain`` or ``clamped``, see ``dense_crf_loss``.
        units: Units of the CRF loss, see ``dense_crf_loss``.
        scale: Factor in (0,1] by which S and images are reduced first.
        backend: Backend of the filter, see ``BilateralFilter``.
        exact: Sum over all pairs of pixels. The time is quadratic in the number of pixels.

    Returns:
        A scalar. If the region of interest is empty, it is a differentiable 0.

    Raises:
        UsageError: Shapes, sigmas, gamma, scale or names are unusable, or the images seem to be in 0..1.
        DataError: probs hold NaN or are not in 0..1, images are not in 0-255, or a label is not a class.

    Source: Tang et al. 2018, "On Regularized Losses for Weakly-supervised CNN Segmentation", (6) and (12).
    Differs: see ``dense_crf_loss`` and ``normalized_cut_loss``.
    """
    if units not in ("normalised", "paper"):
        raise UsageError(f"units are normalised or paper; got {units!r}")
    if not 0 <= gamma < float("inf"):
        raise UsageError(f"gamma is a weight and must not be negative; got {gamma}")
    nc_sigmas = (
        sigma_rgb if nc_sigma_rgb is None else nc_sigma_rgb,
        sigma_xy if nc_sigma_xy is None else nc_sigma_xy,
    )
    segments = soft_segments(probs, images, roi, labels, variant, scale)
    with torch.no_grad():
        filtered, degrees = segments.filtered(sigma_rgb, sigma_xy, backend, exact)
        value, gradient = cut(segments.probs, filtered, degrees, units)
        if nc_sigmas != (sigma_rgb, sigma_xy):
            filtered, degrees = segments.filtered(*nc_sigmas, backend, exact)
        nc_value, nc_gradient = normalised_cuts(segments.probs, filtered, degrees)
    return with_gradient(segments.probs, value + gamma * nc_value, gradient.add_(nc_gradient, alpha=gamma))
