"""The dense CRF loss: total affinity between pixels that soft segments separate."""

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

    Because sum_k S_k = 1, it equals 1'W1 - sum_k S_k' W S_k. Its gradient is -2 W S_k. One call of the filter gives
    both value and gradient.

    Units:
        ``normalised``: the loss of each image is divided by 1'W1. It is the cut share of the affinity within the region
        of interest: 0 if there is one segment, 1 - 1/K if all classes have equal probability everywhere. It is averaged
        over the images that have a region of interest. It does not depend on the crop, the resolution (if sigma_xy
        grows with it), the batch size, K, or the lattice's scale of W.

        ``paper``: the value that the authors' code computes, -sum_k S_k' W S_k. It lacks the constant 1'W1 and is
        therefore negative. It is summed over pixels (the reduced pixels if ``scale`` < 1) and averaged over images.
        Weights in these units belong to the W of this implementation, whose row sums are about 0.6 times those of the
        exact Gaussian. A weight w in these units equals w 1'W1 in normalised units.

        The authors use these weights relative to a mean cross-entropy. Their equivalents in normalised units were
        measured on six VOC photographs (``benchmarks/crf_units.py``). The Caffe code, which trained the paper's
        networks, has 1e-8 at crops of 321; this equals 2.4 to 5.4 (VGG networks) and 1.7 to 3.5 (ResNet-101). The
        PyTorch code has 2e-9 at crops of 513 with ``scale`` 0.5; this equals 0.05 to 0.18. But that code divides its
        mean cross-entropy once more, by the batch size of 12. Relative to the mean the weight is therefore 2.4e-8, or
        0.65 to 2.2 in normalised units.

    Args:
        probs: S, float (B,K,H,W), in 0..1 and summing to 1 over K. Half precision is computed in float32.
        images: (B,3,H,W) RGB in 0-255, any dtype, not normalised.
        sigma_rgb: Standard deviation of the affinity in colour, 0-255 units. Published: 15 (VGG networks), 13 (ResNet-101).
        sigma_xy: Standard deviation in pixels of the full-size image. Published: 100 (VGG), 80 (ResNet-101).
        roi: bool (B,H,W), True on the image, False on padding, which the filter leaves out. None means True everywhere.
        labels: int64 (B,H,W), 255 = unlabelled; the variant ``clamped`` needs them.
        variant: ``plain``: as published. ``clamped``: S is one-hot on labelled pixels. These pixels get no gradient,
            and neither do the channels of classes without a label in the image. Images without labels are as in
            ``plain``.
        units: ``normalised`` or ``paper``, see above.
        scale: Factor in (0,1] by which S and images are reduced first; 0.5 takes a quarter of the work.
        backend: Backend of the filter, see ``BilateralFilter``.
        exact: Sum over all pairs of pixels. The time is quadratic in the number of pixels.

    Returns:
        A scalar. If the region of interest is empty, it is a differentiable 0.

    Raises:
        UsageError: Shapes, sigmas, scale or names are unusable, or the images seem to be in 0..1.
        DataError: probs hold NaN or are not in 0..1, images are not in 0-255, or a label is not a class.

    Source: Tang et al. 2018, "On Regularized Losses for Weakly-supervised CNN Segmentation", (4) and (11).
    Differs: normalised units and the variant ``clamped`` are ours.
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
