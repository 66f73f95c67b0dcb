"""Class-balanced cross-entropy of edge maps with deep supervision."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wss.errors import WssError


def edge_loss(
    logits: Tensor,
    edges: Tensor,
    valid: Tensor | None = None,
    *,
    negative_weight: float = 1.1,
    side_weight: float = 1.0,
) -> Tensor:
    """Cross-entropy of several edge maps with one target; edge and non-edge pixels are balanced in each image.

    Args:
        logits: Scores before the sigmoid, float (B,S,H,W): S maps per image. The last map is the network's result.
        edges: Target (B,H,W), 1 on edges, 0 elsewhere.
        valid: Bool (B,H,W), False on pixels that do not count: padding, and pixels where annotators disagree. None
            counts all pixels.
        negative_weight: lambda, the factor in the weight of non-edge pixels.
        side_weight: Weight of each map before the last. The last map has weight 1.

    Returns:
        A scalar. In each image, beta is the share of non-edge pixels among the valid pixels. Edge pixels have the
        weight beta, non-edge pixels the weight lambda (1 - beta). The weighted cross-entropy is averaged over the valid
        pixels of the batch and summed over the maps. Without any valid pixel it is a differentiable 0.

    Raises:
        WssError: Shapes disagree.

    Source: Liu et al. 2017, arXiv:1612.02103 (RCF), equation (1); summed over maps as in its equation (3).
    Differs: RCF sums over pixels, here the mean is taken. RCF has no ``side_weight``; its value there is 1.
    """
    expected = logits.shape[:1] + logits.shape[2:]
    if logits.ndim != 4 or edges.shape != expected or (valid is not None and valid.shape != expected):
        raise WssError(
            f"logits (B,S,H,W), edges and valid (B,H,W) must agree, got {tuple(logits.shape)}, {tuple(edges.shape)}"
            + ("" if valid is None else f" and {tuple(valid.shape)}")
        )
    counts = torch.ones_like(edges, dtype=torch.bool) if valid is None else valid
    positive = (edges > 0.5) & counts
    negative = (edges <= 0.5) & counts
    number = counts.sum((1, 2), keepdim=True).clamp(min=1).to(logits.dtype)
    beta = negative.sum((1, 2), keepdim=True) / number
    weights = positive * beta + negative * (negative_weight * (1 - beta))
    per_pixel = functional.binary_cross_entropy_with_logits(
        logits, positive[:, None].to(logits.dtype).expand_as(logits), reduction="none"
    )
    per_map = (per_pixel * weights[:, None]).sum((0, 2, 3)) / counts.sum().clamp(min=1)
    return per_map[-1] + side_weight * per_map[:-1].sum()
