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
    """Cross-entropy of several edge maps with one truth, edges and other pixels balanced in every image.

    Args:
        logits: Scores before the sigmoid, float (B,S,H,W): S maps of each image, the result last.
        edges: (B,H,W), 1 on edges, 0 elsewhere.
        valid: Bool (B,H,W), False on pixels that do not count: padding, and those on which annotators disagree. None
            counts all.
        negative_weight: lambda, the weight of pixels without edge.
        side_weight: Weight of each map before the last, whose weight is 1.

    Returns:
        A scalar: per image, beta = share of pixels without edge among those that count, and lambda (1 - beta), are the
        weights of the two classes; the weighted cross-entropy is averaged over the valid pixels of the batch and summed
        over the maps. A differentiable 0 without any valid pixel.

    Raises:
        WssError: Shapes disagree.

    Source: Liu et al. 2017, arXiv:1612.02103 (RCF), equation (1); summed over maps as in its equation (3).
    Differs: the mean over pixels replaces the sum; ``side_weight`` is 1 there.
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
