"""Mean-field inference in a fully connected CRF, unrolled so that gradients flow through it: what a CRF layer computes."""

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

    K_m are a Gaussian over positions and a bilateral Gaussian over positions and colours, normalised; w_m weighs what is
    received about each class, and mu_kl is what class k pays for meeting class l. With the defaults of ``compatibility`` and
    ``normalisation`` the values are those of ``mean_field``. Backward keeps one Q per iteration and filters as often as
    forward. The lattices of an image are built once per call.

    Args:
        logits: (B,K,H,W) floating point, K >= 1, before softmax; log-probabilities do as well. -inf forbids a class at a
            pixel; one class at least must be allowed. Half precision is computed in float32.
        images: (B,3,H,W) RGB in 0-255, any dtype.
        iterations: Number of updates; 0 returns log softmax(logits).
        pos_weight: w of the position kernel, a number or a tensor () or (K,). The number 0 leaves the kernel out.
        pos_xy_std: Its standard deviation in pixels.
        bi_weight: w of the bilateral kernel, likewise.
        bi_xy_std: Its standard deviation in pixels.
        bi_rgb_std: Its standard deviation in colour, 0-255 units.
        compatibility: mu, (K,K). None is the Potts model, 0 on the diagonal and 1 elsewhere; any constant added to a column
            changes nothing.
        normalisation: ``symmetric``: D^-1/2 W D^-1/2 with D = diag(W 1), as pydensecrf; ``rows``: D^-1 W, averages, as
            CRF-as-RNN.
        roi: (B,H,W) bool, True where there is an image. Padding neither gives nor receives; it keeps log softmax(logits).
            None is everywhere.
        backend: Backend of the filter, see ``BilateralFilter``; ``auto`` takes torch for logits in float64.
        exact: Sum over all pairs of pixels, quadratic in their number.

    Returns:
        log Q, (B,K,H,W), float32 or float64, differentiable (twice) in logits, weights and compatibility.

    Raises:
        UsageError: Shapes or parameters are unusable, or the images seem to be in 0..1.
        DataError: The logits hold NaN or +inf, or forbid all classes at a pixel; the images hold NaN or values outside 0-255.

    Source: Zheng et al. 2015, "Conditional Random Fields as Recurrent Neural Networks", algorithm 1; Krähenbühl, Koltun 2011.
    Differs: a pixel also sends a message to itself, as in the public code of both. Classes are mixed before the filter
        instead of after it, which is the same since it treats all channels alike, and leaves nothing but Q to keep.
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
    # a number is filled in: to copy it from the host a GPU would wait
    weight = given.to(unary) if isinstance(given, Tensor) else unary.new_full((), given)

    def unusable() -> UsageError:
        return UsageError(f"{name} must be a finite number or one per class, ({unary.shape[1]},); got {given}")

    if weight.shape not in ((), (unary.shape[1],)):
        raise unusable()
    devices.refuse(~torch.isfinite(weight).all(), unusable)
    return weight


class _Kernel:
    """What all pixels say about the classes at each: (mixing K Q), with K normalised."""

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
