"""The loss that RW-SS calls maximum entropy: the entropy of predictions, to be minimised, which makes them confident."""

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

    Despite its name a training minimises it.

    Args:
        logits: Before softmax, float (B,K,H,W).
        valid: bool (B,H,W), pixels that count, so that padding does not; None is all.
        reduction: ``mean`` over the valid pixels of the batch, ``sum`` over them, or ``none`` for the map (B,H,W), 0 elsewhere.

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
