"""The boundary regression loss: mean squared difference between predicted and given edge maps."""

from __future__ import annotations

import torch
from torch import Tensor

from wss.errors import UsageError
from wss.losses.mean import mean_over_batch


def boundary_regression_loss(predicted: Tensor, edges: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Mean squared error of edge maps.

    Args:
        predicted: Predicted edge maps, float (B,H,W) in 0..1. Half precision is computed in float32.
        edges: Target edge maps, float (B,H,W) in 0..1. They receive no gradient.
        valid: bool (B,H,W), True on pixels that count. None counts all pixels.

    Returns:
        A scalar. Without valid pixels it is a differentiable 0.

    Raises:
        UsageError: Shapes or dtypes disagree.

    Source: Wang et al. 2019, "Boundary Perception Guidance: A Scribble-Supervised Semantic Segmentation Approach", (3).
    Differs: the paper writes a sum over pixels, but the edge losses it reports can only be means (Table 2). If all
        losses were sums, the edge loss would weigh more relative to the cross-entropy: 1 / (labelled share) times as
        much, about 30 times for scribbles.
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
