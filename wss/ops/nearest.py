"""Nearest neighbours by cosine, and labels from their votes."""

from __future__ import annotations

import torch
from torch import Tensor

from wss.errors import UsageError

_ENTRIES = 2**24
"""Largest number of similarities in memory at a time; 64 MiB in float32."""


@torch.no_grad()
def nearest(queries: Tensor, prototypes: Tensor, k: int, *, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k prototypes with the highest cosine to each query, in descending order.

    Args:
        queries: float (Q,C) of unit length.
        prototypes: float (S,C) of unit length, S at least 1; any precision.
        k: Number of neighbours, at least 1. If S is smaller, all S prototypes are returned.
        allowed: bool, False for prototypes to leave out: (S,) for all queries or (Q,S) for each query. None allows all.

    Returns:
        Similarities (Q, min(k,S)) and int64 indices of the prototypes. If fewer are allowed, the rest have similarity
        -inf.

    Raises:
        UsageError: Shapes disagree, or there is no prototype.
    """
    if queries.ndim != 2 or prototypes.ndim != 2 or queries.shape[1] != prototypes.shape[1] or not len(prototypes):
        raise UsageError(
            f"queries and prototypes must be (Q,C) and (S,C) with S > 0; got {tuple(queries.shape)} and {tuple(prototypes.shape)}"
        )
    shapes = ((len(prototypes),), (len(queries), len(prototypes)))
    if k < 1 or (allowed is not None and tuple(allowed.shape) not in shapes):
        got = None if allowed is None else tuple(allowed.shape)
        raise UsageError(f"k must be at least 1, and allowed must be (S,) or (Q,S); got {k} and {got}")
    similarity = queries.new_empty(len(queries), 0)
    index = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    size = max(k, _ENTRIES // max(1, len(queries)))
    for start in range(0, len(prototypes), size):
        similarities = queries @ prototypes[start : start + size].to(queries).T
        if allowed is not None:
            similarities = similarities.masked_fill(~allowed[..., start : start + size], -torch.inf)
        values, place = similarities.topk(min(k, similarities.shape[1]), dim=1)
        similarity, index = torch.cat([similarity, values], 1), torch.cat([index, place + start], 1)
        similarity, best = similarity.topk(min(k, similarity.shape[1]), dim=1)
        index = index.gather(1, best)
    return similarity, index


@torch.no_grad()
def vote(similarity: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Shares of the classes in the votes of each query's neighbours.

    Args:
        similarity: (Q,k) in [-1,1], or -inf for a neighbour without a vote.
        labels: int64 (Q,k), the neighbours' classes.
        num_classes: K.

    Returns:
        (Q,K) in 0..1, summing to 1; all 0 without any vote. The class with the most votes has the largest share. If
        several classes have equally many votes, the class with the largest sum of similarities has a slightly larger
        share.
    """
    weights = torch.where(similarity.isfinite(), 1 + similarity / (4 * similarity.shape[1]), 0)
    votes = weights.new_zeros(len(labels), num_classes).scatter_add_(1, labels, weights)
    return votes / votes.sum(1, keepdim=True).clamp(min=torch.finfo(votes.dtype).tiny)
