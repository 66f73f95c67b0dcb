"""Self-supervision on features: the features of an image and of its transform should agree."""

from __future__ import annotations

import torch
from torch import Tensor

from wss.errors import UsageError
from wss.losses.mean import mean_over_batch


def feature_consistency_loss(features: Tensor, target: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Mean squared difference of feature maps.

    Args:
        features: T(f(x)), float (B,C,h,w): features of the image, transformed by ``wss.ops.Transform.features``.
        target: f(t(x)), float (B,C,h,w): features of the transformed image. They receive no gradient.
        valid: bool (B,h,w), True at positions that count, False on padding. None counts all positions.

    Returns:
        A scalar, at least float32. Without valid positions it is a differentiable 0.

    Raises:
        UsageError: Shapes or dtypes disagree.

    Source: Pan et al. 2021, "Scribble-Supervised Semantic Segmentation by Random Walk on Neural Representation and
        Self-Supervision on Neural Eigenspace", (6) and Table 1.
    Differs: the paper does not say how it measures the difference of features; we use the squared difference.
    """
    if features.ndim != 4 or target.shape != features.shape:
        raise UsageError(
            f"features and target must both be (B,C,h,w); got {tuple(features.shape)} and {tuple(target.shape)}"
        )
    expected = (features.shape[0], *features.shape[2:])
    if valid is not None and (valid.shape != expected or valid.dtype != torch.bool):
        raise UsageError(f"valid must be bool {expected}; got {valid.dtype} {tuple(valid.shape)}")
    dtype = torch.promote_types(features.dtype, torch.float32)
    error = (features.to(dtype) - target.detach().to(dtype)).square().mean(1)
    return mean_over_batch(error, valid)
