"""Differentiable mean-field inference in a fully connected CRF: the computation of a CRF layer."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from wss import devices
from wss.errors import UsageError
from wss.ops.bilateral import Backend, BilateralFilter, check_sigma
from wss.ops.mean_field import check_inputs

Normalisation = Literal["symmetric", "rows"]


def differentiable_mean_field(
    logits: Tensor,
    images: Tensor,
    *,
    iterations: int = 5,
    pos_weight: Tensor | float,
    pos_xy_std: float,
    bi_weight: Tensor | float,
    bi_xy_std: float,
    bi_rgb_std: float,
    compatibility: Tensor | None = None,
    normalisation: Normalisation = "symmetric",
    roi: Tensor | None = None,
    backend: Backend = "auto",
    exact: bool = False,
) -> Tensor:
    """Refine a segmentation: Q <- softmax(logits - mu sum_m diag(w_m) K_m Q), from Q = softmax(logits).

    K_1 is a normalised Gaussian over positions, K_2 a normalised bilateral Gaussian over positions and colours. w_m
    weighs the messages about each class. mu_kl is the cost of class k next to class l. With the defaults of
    ``compatibility`` and ``normalisation`` the values are those of ``mean_field``. The backward pass keeps one Q per
    iteration and calls the filter as often as the forward pass. The lattices of an image are built once per call.

    Args:
        logits: (B,K,H,W) floating point, K >= 1: scores before softmax, or log-probabilities. -inf forbids a class at a
            pixel; at least one class must be allowed. Half precision is computed in float32.
        images: (B,3,H,W) RGB in 0-255, any dtype.
        iterations: Number of updates; 0 returns log softmax(logits).
        pos_weight: w of the position kernel: a number, or a tensor () or (K,). The number 0 leaves the kernel out.
        pos_xy_std: Standard deviation of the position kernel in pixels.
        bi_weight: w of the bilateral kernel: a number, or a tensor () or (K,). The number 0 leaves the kernel out.
        bi_xy_std: Spatial standard deviation of the bilateral kernel in pixels.
        bi_rgb_std: Colour standard deviation of the bilateral kernel, 0-255 units.
        compatibility: mu, (K,K). None is the Potts model: 0 on the diagonal, 1 elsewhere. A constant added to a column
            changes nothing.
        normalisation: ``symmetric``: D^-1/2 W D^-1/2 with D = diag(W 1), as in pydensecrf. ``rows``: D^-1 W, weighted
            averages, as in CRF-as-RNN.
        roi: (B,H,W) bool, True on the image, False on padding. Padding takes no part and keeps log softmax(logits).
            None means True everywhere.
        backend: Backend of the filter, see ``BilateralFilter``; ``auto`` takes torch for logits in float64.
        exact: Sum over all pairs of pixels. The time is quadratic in the number of pixels.

    Returns:
        log Q, (B,K,H,W), float32 or float64, differentiable (twice) in logits, weights and compatibility.

    Raises:
        UsageError: Shapes or parameters are unusable, or the images seem to be in 0..1.
        DataError: The logits hold NaN or +inf, or forbid all classes at a pixel; the images hold NaN or values outside 0-255.

    Source: Zheng et al. 2015, "Conditional Random Fields as Recurrent Neural Networks", algorithm 1; Krähenbühl, Koltun 2011.
    Differs: a pixel also sends a message to itself, as in the public code of both. The compatibility is applied before
        the filter instead of after it. The result is the same, because the filter treats all channels alike, and the
        backward pass needs only Q.
    """
    check_inputs(logits, images, iterations)
    check_sigma(pos_xy_std=pos_xy_std, bi_xy_std=bi_xy_std, bi_rgb_std=bi_rgb_std)
    if normalisation not in ("symmetric", "rows"):
        raise UsageError(f"normalisation is symmetric or rows; got {normalisation!r}")
    unary = (logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits).contiguous()
    if backend == "auto" and unary.dtype == torch.float64:
        backend = "torch"
    costs = _compatibility(compatibility, unary)
    kernels = []
    for name, given, rgb_std, xy_std in (
        ("pos_weight", pos_weight, None, pos_xy_std),
        ("bi_weight", bi_weight, bi_rgb_std, bi_xy_std),
    ):
        weight = _weight(name, given, unary)
        if isinstance(given, Tensor) or given != 0:
            affinity = BilateralFilter(images, rgb_std, xy_std, roi, backend, mode="compat", exact=exact)
            kernels.append(_Kernel(affinity, -costs * weight, normalisation, torch.ones_like(unary[:, :1])))
    scores = unary
    with torch.autocast(unary.device.type, enabled=False):
        for _ in range(iterations):
            probs = scores.softmax(1)
            scores = unary + sum(kernel.message(probs) for kernel in kernels)
        return scores.log_softmax(1)


def _compatibility(given: Tensor | None, unary: Tensor) -> Tensor:
    classes = unary.shape[1]
    if given is None:
        return 1 - torch.eye(classes, dtype=unary.dtype, device=unary.device)
    if given.shape != (classes, classes) or given.device != unary.device:
        raise UsageError(
            f"compatibility must be (K,K) = ({classes},{classes}) on {unary.device}; got {tuple(given.shape)} on "
            f"{given.device}"
        )
    return given.to(unary.dtype)


def _weight(name: str, given: Tensor | float, unary: Tensor) -> Tensor:
    # new_full: copying a number from the host would make a GPU wait
    weight = given.to(unary) if isinstance(given, Tensor) else unary.new_full((), given)

    def unusable() -> UsageError:
        return UsageError(f"{name} must be a finite number or one per class, ({unary.shape[1]},); got {given}")

    if weight.shape not in ((), (unary.shape[1],)):
        raise unusable()
    devices.refuse(~torch.isfinite(weight).all(), unusable)
    return weight


class _Kernel:
    """Messages of one kernel: mixing K Q, with the normalised kernel matrix K."""

    def __init__(self, affinity: BilateralFilter, mixing: Tensor, normalisation: Normalisation, ones: Tensor) -> None:
        degrees = affinity.filter(ones)
        inverse = torch.where(degrees > 0, 1 / degrees, 0)
        self.affinity = affinity
        self.mixing = mixing
        self.before = inverse.sqrt() if normalisation == "symmetric" else None
        self.after = inverse if self.before is None else self.before

    def message(self, probs: Tensor) -> Tensor:
        mixed = torch.matmul(self.mixing, probs.flatten(2)).view_as(probs)
        return self.after * self.affinity.filter(mixed if self.before is None else self.before * mixed)
