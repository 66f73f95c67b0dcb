"""The constrain-to-boundary loss: the network's output should be what a CRF makes of it."""

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
        iterations: Mean-field iterations; like the five parameters of the kernels, see ``mean_field``.
        pos_weight: Weight of the position kernel.
        pos_xy_std: Its standard deviation in pixels of the full-size image.
        bi_weight: Weight of the bilateral kernel.
        bi_xy_std: Its standard deviation in pixels of the full-size image.
        bi_rgb_std: Its standard deviation in colour, 0-255 units.
        backprop: Whether the gradient also flows through Q, which depends on S. False keeps Q as a proposal.
        roi: bool (B,H,W), True where there is an image; padding neither counts nor takes part. None is everywhere.
        scale: Reduce logits and images by this factor (0,1] first: SEC works on maps of an eighth.
        backend: Of the filter, see ``BilateralFilter``.
        exact: Sum over all pairs of pixels, quadratic in their number.

    Returns:
        A scalar. Where the region of interest is empty it is a differentiable 0.

    Raises:
        UsageError: Shapes, parameters or scale are unusable, or the images seem to be in 0..1.
        DataError: The logits hold NaN or infinities, or images are not in 0-255.

    Source: Kolesnikov and Lampert 2016, "Seed, Expand and Constrain", arXiv:1603.06098, (5). Tang et al. 2018, "On
        Regularized Losses for Weakly-supervised CNN Segmentation", Table 3, for ``backprop=False``.
    Differs: the authors keep S above 1e-4 before the CRF; here S is as the network gives it. Their code divides both deviations
        in pixels by 12 for maps of an eighth, where ``scale`` 0.125 divides them by 8: ``pos_xy_std`` 2 and ``bi_xy_std`` 53.3
        with that scale are theirs. Their code gives the logits (1 - Q) times the gradient with respect to log Q; here
        ``backprop`` differentiates the inference.
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
    # the same numbers, several times faster on a CPU; elsewhere nobody waits to learn whether there is padding
    if not backprop and not exact and (roi is None or (devices.on_host(roi) and bool(roi.all()))):
        log_q = mean_field(log_probs, images, **crf).clamp(min=torch.finfo(log_probs.dtype).tiny).log()
    else:
        with torch.set_grad_enabled(backprop and torch.is_grad_enabled()):
            log_q = differentiable_mean_field(log_probs, images, roi=roi, exact=exact, **crf)
    divergence = (log_q.exp() * (log_q - log_probs)).sum(1)
    return mean_over_batch(divergence, roi)
