"""The soft Dice loss: 1 minus the overlap of predicted and labelled regions."""

from __future__ import annotations

import torch
from torch import Tensor

from wss.distributed import all_reduce_sum_with_gradient, rank_share
from wss.errors import UsageError
from wss.labels import UNLABELLED


def dice_loss(probs: Tensor, labels: Tensor, *, ignore_index: int = UNLABELLED, smooth: float = 1e-5) -> Tensor:
    """Mean over classes of 1 - (2 sum p_k y_k + s) / (sum p_k^2 + sum y_k + s), with sums over the batch's labelled pixels.

    A class that is neither labelled nor predicted anywhere adds about 0. A class that is predicted but not labelled
    adds about 1, with a gradient near 0.

    Args:
        probs: Probabilities p, float (B,K,H,W). Half precision is computed in float32.
        labels: Class indices y, int64 (B,H,W), ``ignore_index`` on pixels that do not count.
        ignore_index: The label of pixels that do not count.
        smooth: Smoothing term s, positive.

    Returns:
        A scalar in 0..1. Without any labelled pixel it is a differentiable 0.

    Raises:
        UsageError: Shapes disagree, or ``smooth`` is not positive.

    Source: Milletari, Navab, Ahmadi 2016, "V-Net", arXiv:1606.04797, section 3, over classes as in the ACDC benchmark of Luo et
        al. 2022, arXiv:2203.02106.
    """
    if probs.ndim != 4 or labels.shape != (probs.shape[0], *probs.shape[2:]):
        raise UsageError(
            f"probs (B,K,H,W) and labels (B,H,W) must agree, got {tuple(probs.shape)} and {tuple(labels.shape)}"
        )
    if not smooth > 0:
        raise UsageError(f"smooth must be positive; got {smooth}")
    classes = torch.arange(probs.shape[1], device=probs.device).view(1, -1, 1, 1)
    counted = (labels != ignore_index)[:, None]
    wide = probs.to(torch.promote_types(probs.dtype, torch.float32)).where(counted, 0)
    hot = labels[:, None] == classes
    overlap = all_reduce_sum_with_gradient(wide.where(hot, 0).sum((0, 2, 3)))
    size = all_reduce_sum_with_gradient(wide.square().sum((0, 2, 3)) + hot.sum((0, 2, 3)))
    return rank_share((1 - (2 * overlap + smooth) / (size + smooth)).mean())
