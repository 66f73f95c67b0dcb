"""Soft eigenspace self-supervision: the transition matrices of an image and of its transform should agree."""

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
    """Kullback-Leibler divergence of rows, plus gamma times the absolute difference of traces.

    Equal matrices have equal eigenvectors, and the trace is the sum of the eigenvalues. The loss therefore compares the
    eigenspaces without an eigendecomposition.

    Args:
        transition: T(P(x)), float (B,N,N) with rows summing to 1: the matrix of the image, transformed by
            ``wss.ops.transform_transition``.
        target: P(t(x)), float (B,N,N): the matrix of the transformed image. It receives no gradient.
        log: Both matrices hold logarithms. These stay exact where probabilities underflow, as they do for confident
            features. If False, probabilities are clamped to the smallest normal number.
        gamma: Weight of the difference of traces, at least 0.
        direction: ``target-found`` is KL(target || transition), which weights entries by the target's probabilities;
            ``found-target`` is KL(transition || target).
        reduction: Reduction of the divergences. ``mean``: over rows and images. ``batchmean``: sum over rows, mean over
            images. ``entries``: mean over the N entries of each row too, so that rows weigh N times less relative to
            the traces and to other losses. ``none``: mean over rows for each image, (B,). The trace is always a sum
            over rows; absolute differences of traces are averaged over images.
        valid: bool (B,N), True for rows that count, False on padding. None counts all rows.

    Returns:
        A scalar, or (B,) for ``none``; at least float32. Without valid rows it is a differentiable 0.

    Raises:
        UsageError: Shapes, gamma, direction or reduction are unusable.

    Source: Pan et al. 2021, "Scribble-Supervised Semantic Segmentation by Random Walk on Neural Representation and
        Self-Supervision on Neural Eigenspace", (8).
    Differs: the paper does not state the direction and the reduction of the divergence. The authors' later code
        (github.com/panzhiyi/URSS) uses ``entries``.
    """
    _check(transition, target, gamma, direction, reduction, valid)
    dtype = torch.promote_types(transition.dtype, torch.float32)
    predicted, wanted = transition.to(dtype), target.detach().to(dtype)
    if not log:
        tiny = torch.finfo(dtype).tiny
        predicted, wanted = predicted.clamp(min=tiny).log(), wanted.clamp(min=tiny).log()
    first, second = (wanted, predicted) if direction == "target-found" else (predicted, wanted)
    divergence = (first.exp() * (first - second)).sum(2)
    distance = predicted.diagonal(dim1=1, dim2=2).exp() - wanted.diagonal(dim1=1, dim2=2).exp()
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
