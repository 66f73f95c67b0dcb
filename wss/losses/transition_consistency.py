"""Soft eigenspace self-supervision: transition matrices of an image and of its transform should agree."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from wss.errors import UsageError
from wss.losses.mean import mean_over_batch

Direction = Literal["target-found", "found-target"]
RowReduction = Literal["mean", "batchmean", "entries", "none"]


def transition_consistency_loss(
    transition: Tensor,
    target: Tensor,
    *,
    log: bool = False,
    gamma: float = 0.01,
    direction: Direction = "target-found",
    reduction: RowReduction = "mean",
    valid: Tensor | None = None,
) -> Tensor:
    """Kullback-Leibler divergence of rows, plus gamma times the difference of traces.

    Equal matrices have equal eigenvectors, and the trace is the sum of the eigenvalues: so the eigenspaces are compared without
    decomposing anything.

    Args:
        transition: T(P(x)), float (B,N,N) with rows summing to 1, of the image (``wss.ops.transform_transition``).
        target: P(t(x)), the same of the transformed image; no gradient flows into it.
        log: Both are logarithms. They are exact where probabilities underflow, which those of confident features do; without,
            probabilities below the smallest normal number count as that.
        gamma: Weight of the traces, at least 0.
        direction: ``target-found``, KL(target || transition), which weighs what the target holds likely; or ``found-target``.
        reduction: Of the divergences: ``mean`` over rows and images; ``batchmean``, sum over rows and mean over images;
            ``entries``, mean over the N entries of each row as well, so that rows weigh N times less beside the traces and other
            losses; ``none``, mean over rows for each image (B,). Traces are sums over rows always, and their absolute differences
            (the norm of a number) are averaged over images.
        valid: bool (B,N), rows that count, so that padding does not; None is all.

    Returns:
        A scalar, or (B,) for ``none``; at least float32. Without valid rows it is a differentiable 0.

    Raises:
        UsageError: Shapes, gamma, direction or reduction are unusable.

    Source: Pan et al. 2021, "Scribble-Supervised Semantic Segmentation by Random Walk on Neural Representation and
        Self-Supervision on Neural Eigenspace", (8).
    Differs: the paper leaves the divergence's direction and reduction open. The authors' later code
        (github.com/panzhiyi/URSS) has ``entries``.
    """
    _check(transition, target, gamma, direction, reduction, valid)
    dtype = torch.promote_types(transition.dtype, torch.float32)
    found, wanted = transition.to(dtype), target.detach().to(dtype)
    if not log:
        tiny = torch.finfo(dtype).tiny
        found, wanted = found.clamp(min=tiny).log(), wanted.clamp(min=tiny).log()
    first, second = (wanted, found) if direction == "target-found" else (found, wanted)
    divergence = (first.exp() * (first - second)).sum(2)
    distance = found.diagonal(dim1=1, dim2=2).exp() - wanted.diagonal(dim1=1, dim2=2).exp()
    if valid is not None:
        divergence, distance = divergence.where(valid, 0), distance.where(valid, 0)
    traces = gamma * distance.sum(1).abs()
    rows = divergence.shape[1] if valid is None else valid.sum(1).clamp(min=1)
    if reduction == "none":
        return divergence.sum(1) / rows + traces
    if reduction == "batchmean":
        return mean_over_batch(divergence.sum(1) + traces)
    share = divergence.shape[1] if reduction == "entries" else 1
    return mean_over_batch(divergence, valid) / share + mean_over_batch(traces)


def _check(
    transition: Tensor, target: Tensor, gamma: float, direction: str, reduction: str, valid: Tensor | None
) -> None:
    if transition.ndim != 3 or transition.shape[1] != transition.shape[2] or target.shape != transition.shape:
        raise UsageError(
            f"transition matrices must both be (B,N,N); got {tuple(transition.shape)} and {tuple(target.shape)}"
        )
    if valid is not None and (valid.shape != transition.shape[:2] or valid.dtype != torch.bool):
        raise UsageError(f"valid must be bool {tuple(transition.shape[:2])}; got {valid.dtype} {tuple(valid.shape)}")
    if not gamma >= 0:
        raise UsageError(f"gamma must be at least 0; got {gamma}")
    if direction not in ("target-found", "found-target"):
        raise UsageError(f"direction is target-found or found-target; got {direction!r}")
    if reduction not in ("mean", "batchmean", "entries", "none"):
        raise UsageError(f"reduction is mean, batchmean, entries or none; got {reduction!r}")
