"""The entropy of predictions. RW-SS calls it maximum-entropy loss; minimising it makes predictions confident."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from wss.errors import UsageError
from wss.losses.mean import mean_over_batch


def maximum_entropy_loss(
    logits: Tensor, *, valid: Tensor | None = None, reduction: Literal["mean", "sum", "none"] = "mean"
) -> Tensor:
    """E(s) = -1/(HW) sum over pixels and classes of s log s.

    Despite the name, training minimises this entropy.

    Args:
        logits: Scores before softmax, float (B,K,H,W).
        valid: bool (B,H,W), True on pixels that count, False on padding. None counts all pixels.
        reduction: ``mean`` or ``sum`` over the valid pixels of the batch, or ``none`` for a map (B,H,W) that is 0 on
            other pixels.

    Returns:
        A scalar in 0..log K for ``mean``; at least float32. Without valid pixels it is a differentiable 0.

    Raises:
        UsageError: Shapes or reduction are unusable.

    Source: Pan et al. 2021, "Scribble-Supervised Semantic Segmentation by Random Walk on Neural Representation and
        Self-Supervision on Neural Eigenspace", (10).
    """
    if logits.ndim != 4:
        raise UsageError(f"logits must be (B,K,H,W); got {tuple(logits.shape)}")
    expected = (logits.shape[0], *logits.shape[2:])
    if valid is not None and (valid.shape != expected or valid.dtype != torch.bool):
        raise UsageError(f"valid must be bool {expected}; got {valid.dtype} {tuple(valid.shape)}")
    if reduction not in ("mean", "sum", "none"):
        raise UsageError(f"reduction is mean, sum or none; got {reduction!r}")
    log_probs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)
    entropy = -(log_probs.exp() * log_probs).sum(1)
    if valid is not None:
        entropy = entropy.where(valid, 0)
    if reduction == "none":
        return entropy
    if reduction == "sum":
        return entropy.sum()
    return mean_over_batch(entropy, valid)
