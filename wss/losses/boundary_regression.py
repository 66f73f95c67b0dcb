"""The boundary regression loss: how far predicted edges are from given ones."""

from __future__ import annotations

import torch
from torch import Tensor

from wss.errors import UsageError
from wss.losses.mean import mean_over_batch


def boundary_regression_loss(predicted: Tensor, edges: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Mean squared error of edge maps.

    Args:
        predicted: Float (B,H,W) in 0..1. Half precision is computed in float32.
        edges: The edge maps to reach, float (B,H,W) in 0..1; no gradient flows into them.
        valid: bool (B,H,W), the pixels that count; None is all.

    Returns:
        A scalar. Without valid pixels it is a differentiable 0.

    Raises:
        UsageError: Shapes or dtypes disagree.

    Source: Wang et al. 2019, "Boundary Perception Guidance: A Scribble-Supervised Semantic Segmentation Approach", (3).
    Differs: the paper sums over pixels, but reports edge losses that can only be means (Table 2). Beside a mean over labelled
        pixels, a sum over all pixels is this mean divided by the labelled share: about 30 times as much for scribbles.
    """
    if predicted.ndim != 3 or edges.shape != predicted.shape or not edges.is_floating_point():
        raise UsageError(
            f"predicted and edges must both be float (B,H,W); got {tuple(predicted.shape)} and {edges.dtype} "
            f"{tuple(edges.shape)}"
        )
    if valid is not None and (valid.shape != edges.shape or valid.dtype != torch.bool):
        raise UsageError(f"valid must be bool (B,H,W) like the edges; got {valid.dtype} {tuple(valid.shape)}")
    dtype = torch.promote_types(predicted.dtype, torch.float32)
    error = (predicted.to(dtype) - edges.detach().to(dtype)).square()
    return mean_over_batch(error, valid)
