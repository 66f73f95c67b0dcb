"""The constrain-to-boundary loss: divergence between the network's output and its refinement by a dense CRF."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from wss import devices
from wss.errors import UsageError
from wss.losses.mean import mean_over_batch
from wss.ops import differentiable_mean_field, mean_field
from wss.ops.bilateral import Backend


def constrain_to_boundary_loss(
    logits: Tensor,
    images: Tensor,
    *,
    iterations: int = 10,
    pos_weight: float = 3.0,
    pos_xy_std: float = 3.0,
    bi_weight: float = 10.0,
    bi_xy_std: float = 80.0,
    bi_rgb_std: float = 13.0,
    backprop: bool = True,
    roi: Tensor | None = None,
    scale: float = 1.0,
    backend: Backend = "auto",
    exact: bool = False,
) -> Tensor:
    """Mean over pixels of KL(Q || S), with S = softmax(logits) and Q the CRF's mean-field result from S.

    Args:
        logits: Scores before softmax, float (B,K,H,W). Half precision is computed in float32.
        images: (B,3,H,W) RGB in 0-255, any dtype.
        iterations: Number of mean-field iterations. ``mean_field`` describes it and the five kernel parameters.
        pos_weight: Weight of the position kernel.
        pos_xy_std: Standard deviation of the position kernel, in pixels of the full-size image.
        bi_weight: Weight of the bilateral kernel.
        bi_xy_std: Spatial standard deviation of the bilateral kernel, in pixels of the full-size image.
        bi_rgb_std: Colour standard deviation of the bilateral kernel, 0-255 units.
        backprop: True: the gradient also flows through Q, which depends on S. False: Q is a constant proposal.
        roi: bool (B,H,W), True on the image, False on padding. Padding is left out of the CRF and of the mean. None is
            True everywhere.
        scale: Factor in (0,1] by which logits and images are reduced first. SEC works at 1/8 of the resolution.
        backend: Backend of the filter, see ``BilateralFilter``.
        exact: Sum over all pairs of pixels. The time is quadratic in the number of pixels.

    Returns:
        A scalar. If the region of interest is empty, it is a differentiable 0.

    Raises:
        UsageError: Shapes, parameters or scale are unusable, or the images seem to be in 0..1.
        DataError: The logits hold NaN or infinities, or images are not in 0-255.

    Source: Kolesnikov and Lampert 2016, "Seed, Expand and Constrain", arXiv:1603.06098, (5). Tang et al. 2018, "On
        Regularized Losses for Weakly-supervised CNN Segmentation", Table 3, for ``backprop=False``.
    Differs: the authors clamp S to at least 1e-4 before the CRF; here S is not clamped. For maps at 1/8 of the
        resolution their code divides both spatial standard deviations by 12; ``scale=0.125`` divides them by 8. To get
        their values with this scale, set ``pos_xy_std=2`` and ``bi_xy_std=53.3``. In their code the gradient to the
        logits is (1 - Q) times the gradient with respect to log Q; here ``backprop`` differentiates the mean-field
        inference.
    """
    if not 0 < scale <= 1:
        raise UsageError(f"scale is the factor by which the loss reduces the image, in (0,1]; got {scale}")
    if roi is not None and (roi.shape != (logits.shape[0], *logits.shape[2:]) or roi.dtype != torch.bool):
        raise UsageError(f"roi must be bool (B,H,W) like logits; got {roi.dtype} {tuple(roi.shape)}")
    wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    if scale < 1:
        size = [max(1, round(scale * side)) for side in wide.shape[2:]]
        wide = interpolate(wide, size, mode="bilinear", align_corners=False)
        images = interpolate(images.to(wide.dtype), size, mode="area").clamp(0, 255)
        roi = None if roi is None else interpolate(roi[:, None].to(wide.dtype), size, mode="area")[:, 0] > 0.5
    log_probs = wide.log_softmax(1)
    crf: dict[str, Any] = {
        "iterations": iterations,
        "pos_weight": pos_weight,
        "pos_xy_std": pos_xy_std * scale,
        "bi_weight": bi_weight,
        "bi_xy_std": bi_xy_std * scale,
        "bi_rgb_std": bi_rgb_std,
        "backend": backend,
    }
    # mean_field gives the same numbers, several times faster on a CPU. On a GPU, roi.all() would wait for the device.
    if not backprop and not exact and (roi is None or (devices.on_host(roi) and bool(roi.all()))):
        log_q = mean_field(log_probs, images, **crf).clamp(min=torch.finfo(log_probs.dtype).tiny).log()
    else:
        with torch.set_grad_enabled(backprop and torch.is_grad_enabled()):
            log_q = differentiable_mean_field(log_probs, images, roi=roi, exact=exact, **crf)
    divergence = (log_q.exp() * (log_q - log_probs)).sum(1)
    return mean_over_batch(divergence, roi)
