"""The normalised cut loss: the share of each soft segment's affinity that goes to the other segments."""

from __future__ import annotations

import torch
from torch import Tensor

from wss.losses.pairwise import Variant, images_with_pixels, soft_segments, with_gradient
from wss.ops.bilateral import Backend

EMPTY = 1e-12
"""Segments with at most this share of the image's affinity are ignored, because (5) is 0/0 for them."""


def normalized_cut_loss(
    probs: Tensor,
    images: Tensor,
    *,
    sigma_rgb: float = 15.0,
    sigma_xy: float = 40.0,
    roi: Tensor | None = None,
    labels: Tensor | None = None,
    variant: Variant = "plain",
    scale: float = 1.0,
    backend: Backend = "auto",
    exact: bool = False,
) -> Tensor:
    """Relaxed normalised cut, sum_k S_k' W (1 - S_k) / d'S_k, with the bilateral Gaussian W and its degrees d = W 1.

    The loss is a sum of ratios. It does not depend on the crop, the resolution (if sigma_xy grows with it), the batch
    size or the scale of W, so there are no units to choose. A segment adds a value from 0 (nothing is cut) to 1
    (everything is cut). A class with hardly any probability adds nearly 1, and its gradient with respect to the logits
    is nearly 0. Classes that do not occur therefore do not change the gradients of the others; this is why the sum is
    not divided by K. The mean is over images with a region of interest.

    Args:
        probs: S, float (B,K,H,W), in 0..1 and summing to 1 over K. Half precision is computed in float32.
        images: (B,3,H,W) RGB in 0-255, any dtype, not normalised.
        sigma_rgb: Standard deviation of the affinity in colour, 0-255 units.
        sigma_xy: Standard deviation in pixels of the full-size image.
        roi: bool (B,H,W), True on the image, False on padding, which the filter leaves out. None means True everywhere.
        labels: int64 (B,H,W), 255 = unlabelled; the variant ``clamped`` needs them.
        variant: ``plain`` or ``clamped``, see ``dense_crf_loss``.
        scale: Factor in (0,1] by which S and images are reduced first.
        backend: Backend of the filter, see ``BilateralFilter``.
        exact: Sum over all pairs of pixels. The time is quadratic in the number of pixels.

    Returns:
        A scalar in 0..K. If the region of interest is empty, it is a differentiable 0.

    Raises:
        UsageError: Shapes, sigmas, scale or names are unusable, or the images seem to be in 0..1.
        DataError: probs hold NaN or are not in 0..1, images are not in 0-255, or a label is not a class.

    Source: Tang et al. 2018, "On Regularized Losses for Weakly-supervised CNN Segmentation", (5) and the second part of (12).
    Differs: a segment without any probability adds 0. The standard deviations are not published; the defaults are ours.
    """
    segments = soft_segments(probs, images, roi, labels, variant, scale)
    with torch.no_grad():
        filtered, degrees = segments.filtered(sigma_rgb, sigma_xy, backend, exact)
        value, gradient = normalised_cuts(segments.probs, filtered, degrees)
    return with_gradient(segments.probs, value, gradient)


def normalised_cuts(probs: Tensor, filtered: Tensor, degrees: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of the normalised cut loss, from S, W S and W 1; see ``normalized_cut_loss``."""
    count = images_with_pixels(degrees)
    volume = (probs * degrees).sum((2, 3), keepdim=True)
    exists = volume > EMPTY * degrees.sum((2, 3), keepdim=True)
    inverse = torch.where(exists, 1 / volume, 0)
    kept = (probs * filtered).sum((2, 3), keepdim=True) * inverse
    gradient = (filtered * (-2 / count * inverse)).addcmul_(kept * inverse / count, degrees)
    return torch.where(exists, 1 - kept, 0).sum() / count, gradient
