"""The CRF loss: how much affinity the soft segments cut."""

from __future__ import annotations

import torch
from torch import Tensor

from wss.errors import UsageError
from wss.losses.mean import over_batch
from wss.losses.pairwise import Units, Variant, images_with_pixels, soft_segments, with_gradient
from wss.ops.bilateral import Backend


def dense_crf_loss(
    probs: Tensor,
    images: Tensor,
    *,
    sigma_rgb: float = 15.0,
    sigma_xy: float = 100.0,
    roi: Tensor | None = None,
    labels: Tensor | None = None,
    variant: Variant = "plain",
    units: Units = "normalised",
    scale: float = 1.0,
    backend: Backend = "auto",
    exact: bool = False,
) -> Tensor:
    """Quadratic relaxation of the dense CRF's Potts energy, sum_k S_k' W (1 - S_k), with the bilateral Gaussian W.

    With sum_k S_k = 1 it is 1'W1 - sum_k S_k' W S_k, whose gradient is -2 W S_k. Value and gradient come from one filtering.

    Units:
        ``normalised``: divided by 1'W1, per image: the share of the affinity in the region of interest that is cut, from 0
        (one segment) to 1 - 1/K (all classes alike everywhere), averaged over the images that have a region of interest. It
        does not depend on crop, resolution (if sigma_xy grows with it), batch size, K, nor on the lattice's scale of W.

        ``paper``: what the authors' code computes: -sum_k S_k' W S_k, without the constant 1'W1 and hence negative, summed
        over pixels (the reduced ones, with a ``scale``), averaged over images. Its weights go with this implementation's W,
        whose row sums are about 0.6 of the Gaussian's. A weight w is as much as w 1'W1 in normalised units.

        The authors' weights beside a mean cross-entropy, and how much they are in normalised units on six VOC photographs
        (``benchmarks/crf_units.py``): Caffe, with which the paper's networks were trained, 1e-8 at crops of 321, 2.4 to 5.4
        (VGG networks) and 1.7 to 3.5 (ResNet-101). PyTorch, 2e-9 at crops of 513 with ``scale`` 0.5, 0.05 to 0.18; but that
        code divides its mean cross-entropy by the batch size of 12 once more, so that the weight relative to the mean is
        2.4e-8, 0.65 to 2.2 in normalised units.

    Args:
        probs: S, float (B,K,H,W), in 0..1 and summing to 1 over K. Half precision is computed in float32.
        images: (B,3,H,W) RGB in 0-255, any dtype, not normalised.
        sigma_rgb: Standard deviation of the affinity in colour, 0-255 units. Published: 15 (VGG networks), 13 (ResNet-101).
        sigma_xy: Standard deviation in pixels of the full-size image. Published: 100 (VGG), 80 (ResNet-101).
        roi: bool (B,H,W), True where there is an image; padding neither gives nor receives. None is everywhere.
        labels: int64 (B,H,W), 255 = unlabelled; the variant ``clamped`` needs them.
        variant: ``plain`` as published. ``clamped``: S is one-hot on labelled pixels, which get no gradient; nor do the
            channels of classes that the image has no label of. Images without labels are as in ``plain``.
        units: See above.
        scale: Reduce S and images by this factor (0,1] first: a quarter of the work for 0.5.
        backend: Of the filter, see ``BilateralFilter``.
        exact: Sum over all pairs of pixels, quadratic in their number.

    Returns:
        A scalar. Where the region of interest is empty it is a differentiable 0.

    Raises:
        UsageError: Shapes, sigmas, scale or names are unusable, or the images seem to be in 0..1.
        DataError: probs hold NaN or are not in 0..1, images are not in 0-255, or labels are no classes.

    Source: Tang et al. 2018, "On Regularized Losses for Weakly-supervised CNN Segmentation", (4) and (11).
    Differs: normalised units are ours, and so is the variant ``clamped``.
    """
    if units not in ("normalised", "paper"):
        raise UsageError(f"units are normalised or paper; got {units!r}")
    segments = soft_segments(probs, images, roi, labels, variant, scale)
    with torch.no_grad():
        filtered, degrees = segments.filtered(sigma_rgb, sigma_xy, backend, exact)
        value, gradient = cut(segments.probs, filtered, degrees, units)
    return with_gradient(segments.probs, value, gradient)


def cut(probs: Tensor, filtered: Tensor, degrees: Tensor, units: Units) -> tuple[Tensor, Tensor]:
    """Value and gradient of the CRF loss, from S, W S and W 1; see ``dense_crf_loss``."""
    kept = (probs * filtered).sum((1, 2, 3))
    if units == "paper":
        images = over_batch(len(probs), probs)
        return -kept.sum() / images, filtered * (-2 / images.to(filtered.dtype))
    total = degrees.sum((1, 2, 3))
    weight = torch.where(total > 0, 1 / total, 0) / images_with_pixels(degrees)
    return ((total - kept) * weight).sum(), filtered * (-2 * weight.view(-1, 1, 1, 1))
