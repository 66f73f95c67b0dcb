"""Common parts of the regularised losses: soft segments S, and one call of the filter for value and gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import interpolate

from wss import devices
from wss.distributed import all_reduce_sum
from wss.errors import DataError, UsageError
from wss.labels import UNLABELLED
from wss.ops import BilateralFilter
from wss.ops.bilateral import Backend, check_images

Variant = Literal["plain", "clamped"]
Units = Literal["normalised", "paper"]


@dataclass(frozen=True)
class SoftSegments:
    """Soft segments within the region of interest, at the resolution of the filter.

    Attributes:
        probs: S, (B,K,h,w) float32 or float64, 0 outside ``roi``. Gradients flow through it to the caller's probs.
        images: (B,3,h,w) RGB in 0-255.
        roi: (B,h,w) bool; None means the whole image.
        scale: h / H. Standard deviations in pixels are multiplied by it.
    """

    probs: Tensor
    images: Tensor
    roi: Tensor | None
    scale: float

    def filtered(self, sigma_rgb: float, sigma_xy: float, backend: Backend, exact: bool) -> tuple[Tensor, Tensor]:
        """Return W S, (B,K,h,w), and the degrees d = W 1, (B,1,h,w), from one call of the filter, without gradient."""
        affinity = BilateralFilter(
            self.images, sigma_rgb, sigma_xy * self.scale, self.roi, backend, mode="symmetric", exact=exact
        )
        probs = self.probs.detach()
        ones = torch.ones_like(probs[:, :1])
        with torch.autocast(probs.device.type, enabled=False):
            result = affinity.filter(torch.cat([probs, ones], 1))
        return result[:, :-1], result[:, -1:]


def soft_segments(
    probs: Tensor, images: Tensor, roi: Tensor | None, labels: Tensor | None, variant: Variant, scale: float
) -> SoftSegments:
    """Check the arguments of a regularised loss, clamp S to the labels for ``clamped``, and reduce the resolution.

    Args:
        probs: (B,K,H,W) floating point in 0..1, summing to 1 over K; half precision becomes float32.
        images: (B,3,H,W) RGB in 0-255.
        roi: (B,H,W) bool, or None.
        labels: int64 (B,H,W), 255 = unlabelled; read by the variant ``clamped`` only.
        variant: ``plain`` leaves S as it is. ``clamped``: S is one-hot on labelled pixels. It gets no gradient there,
            nor in the channels of classes without a label in the image. Images without labels are not changed.
        scale: Factor in (0,1]. S and images are interpolated bilinearly; 0.5 averages 2x2 pixels. Only pixels in the
            region of interest take part, so S still sums to 1 and padding is left out. A reduced pixel with less than
            half of its area in the region of interest is left out.

    Raises:
        UsageError: Shapes disagree, the scale or variant is unknown, or ``clamped`` is used without labels.
        DataError: probs hold NaN or values outside 0..1, a label is not a class, or the images are not RGB in 0-255.
    """
    check_images(images)
    if probs.ndim != 4 or not probs.is_floating_point() or probs.shape[1] < 1:
        raise UsageError(f"probs must be floating point (B,K,H,W); got {probs.dtype} {tuple(probs.shape)}")
    if (probs.shape[0], *probs.shape[2:]) != (images.shape[0], *images.shape[2:]) or probs.device != images.device:
        raise UsageError(
            f"probs and images must agree in batch, size and device; got {tuple(probs.shape)} on {probs.device} and "
            f"{tuple(images.shape)} on {images.device}"
        )
    lowest, highest = torch.aminmax(probs.detach())
    devices.refuse(~((lowest >= -1e-3) & (highest <= 1 + 1e-3)), _not_probs, lowest, highest)
    if roi is not None and (roi.shape != (images.shape[0], *images.shape[2:]) or roi.dtype != torch.bool):
        raise UsageError(
            f"roi must be bool (B,H,W) like the images, {tuple(images.shape)}; got {roi.dtype} {tuple(roi.shape)}"
        )
    if not 0 < scale <= 1:
        raise UsageError(f"scale is the factor by which the loss reduces the image, in (0,1]; got {scale}")
    wide = probs.float() if probs.dtype in (torch.float16, torch.bfloat16) else probs
    if variant == "clamped":
        wide = _clamp(wide, labels)
    elif variant != "plain":
        raise UsageError(f"variant is plain or clamped; got {variant!r}")
    if roi is not None:
        wide = wide * roi[:, None]
    if scale == 1:
        return SoftSegments(wide, images, roi, 1.0)
    return _reduce(wide, images, roi, scale)


def _not_probs(lowest: float, highest: float) -> DataError:
    return DataError(
        f"probs must be in 0..1; got values from {lowest:g} to {highest:g}: apply softmax over dimension 1, and look "
        "for a diverged network if they are NaN"
    )


def _clamp(probs: Tensor, labels: Tensor | None) -> Tensor:
    if labels is None:
        raise UsageError("variant 'clamped' needs the labels to clamp to")
    if labels.shape != (probs.shape[0], *probs.shape[2:]):
        raise UsageError(f"labels must be (B,H,W) like probs, {tuple(probs.shape)}; got {tuple(labels.shape)}")
    classes = torch.arange(probs.shape[1], device=probs.device).view(1, -1, 1, 1)
    hot = labels[:, None] == classes
    labelled = (labels != UNLABELLED)[:, None]
    count = probs.shape[1]
    devices.refuse(
        (labelled & ~hot.any(1, keepdim=True)).any(),
        lambda largest: DataError(f"labels must be below {count}, or 255 where unlabelled; got {largest:.0f}"),
        labels.max(),
    )
    present = hot.flatten(2).any(2) | ~labelled.flatten(1).any(1, keepdim=True)
    constant = torch.where(labelled, hot.to(probs.dtype), probs.detach())
    return torch.where(labelled | ~present[:, :, None, None], constant, probs)


def _reduce(probs: Tensor, images: Tensor, roi: Tensor | None, scale: float) -> SoftSegments:
    height, width = images.shape[2:]
    size = (max(1, round(scale * height)), max(1, round(scale * width)))

    def reduced(maps: Tensor) -> Tensor:
        return interpolate(maps, size, mode="bilinear", align_corners=False)

    colours = images.to(probs.dtype)
    if roi is None:
        # Interpolation weights sum to 1 only up to rounding: white can become 255.00002.
        return SoftSegments(reduced(probs), reduced(colours).clamp(0, 255), None, scale)
    inside = roi[:, None].to(probs.dtype)
    share = reduced(inside)
    kept = share >= 0.5
    weight = kept / share.clamp(min=0.5)
    colours = (reduced(colours * inside) * weight).clamp(0, 255)
    return SoftSegments(reduced(probs) * weight, colours, kept[:, 0], scale)


def images_with_pixels(degrees: Tensor) -> Tensor:
    """Number of images with a region of interest in the whole batch, at least 1. It divides the sum of their losses.

    Args:
        degrees: (B,1,h,w), 0 outside the region of interest.
    """
    return all_reduce_sum((degrees.amax((1, 2, 3)) > 0).sum()).clamp(min=1)


def with_gradient(probs: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """Return a scalar with the given value and the given gradient with respect to probs.

    The filter is linear and W is symmetric, so one call of the filter gives both. Autograd would run the filter a
    second time.
    """
    return _WithGradient.apply(probs, value, gradient)  # type: ignore[no-untyped-call, no-any-return]


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, probs: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        return grads[0] * ctx.saved_tensors[0], None, None
