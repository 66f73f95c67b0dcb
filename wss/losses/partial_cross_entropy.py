"""Cross-entropy on the labelled pixels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from wss.distributed import all_reduce_sum
from wss.errors import WssError
from wss.labels import UNLABELLED


def partial_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = UNLABELLED,
    class_weights: Tensor | None = None,
    focal_gamma: float = 0.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Tensor:
    """Cross-entropy between predictions and labels, over labelled pixels only.

    Args:
        logits: Scores before softmax, float (B, K, H, W).
        labels: Class indices, int64 (B, H, W), ``ignore_index`` where unlabelled or padded.
        ignore_index: The unlabelled code.
        class_weights: Weight per class, float (K,). None gives all classes equal weight.
        focal_gamma: If above 0, the loss of a pixel is multiplied by (1 - p)^gamma, with p the probability of its
            label. Larger values give less weight to pixels that are already right.
        reduction: ``mean`` over the labelled pixels of the whole batch (weighted mean with class weights), ``sum``, or
            ``none`` for a map (B, H, W) with 0 on unlabelled pixels.

    Returns:
        A scalar, or (B, H, W) for ``none``. Without any labelled pixel it is a differentiable 0.

    Raises:
        WssError: Shapes disagree, a label is neither a class nor ``ignore_index``, or ``focal_gamma`` is negative.

    Source: Tang et al. 2018, "On Regularized Losses for Weakly-supervised CNN Segmentation", first term of (2); Lin et al. 2017,
        "Focal Loss for Dense Object Detection", (5), for ``focal_gamma``.
    Differs: the paper sums over pixels. The mean makes the learning rate independent of the number of labelled pixels.
        The factor of the focal loss does not enter the divisor of the mean.
    """
    if logits.ndim != 4 or labels.shape != logits.shape[:1] + logits.shape[2:]:
        raise WssError(
            f"logits (B,K,H,W) and labels (B,H,W) must agree, got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    if focal_gamma < 0:
        raise WssError(f"focal_gamma must not be negative, got {focal_gamma}")
    before = None if focal_gamma else class_weights
    try:
        loss = functional.cross_entropy(logits, labels, before, ignore_index=ignore_index, reduction="none")
    except IndexError as error:
        raise WssError(f"labels must be below {logits.shape[1]} or {ignore_index}: {error}") from error
    if focal_gamma:
        loss = _focal(loss, focal_gamma)
        if class_weights is not None:
            loss = loss * class_weights.to(loss.dtype)[labels.where(labels != ignore_index, 0)]
    if reduction == "none":
        return loss
    total = loss.sum()
    if reduction == "sum":
        return total
    valid = labels != ignore_index
    weight = valid.sum() if class_weights is None else class_weights[labels.where(valid, 0)].where(valid, 0).sum()
    return total / all_reduce_sum(weight).clamp(min=torch.finfo(loss.dtype).tiny)


def _focal(loss: Tensor, gamma: float) -> Tensor:
    """Multiply the cross-entropy -log p by (1 - p)^gamma. Gradients are finite even for p = 1."""
    wrong = -torch.expm1(-loss)
    return wrong.clamp(min=torch.finfo(loss.dtype).tiny).pow(gamma) * loss
