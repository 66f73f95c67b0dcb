"""Transition matrices of random walks on features: which positions of a feature map resemble each other."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wss.errors import UsageError
from wss.ops.transform import Transform


def transition_matrix(features: Tensor, keys: Tensor | None = None, *, scale: float = 1.0, log: bool = False) -> Tensor:
    """P = softmax(f' f) over rows: from each position, the probability of a step to every other.

    It is computed in float32 or float64 also under autocast: inner products of 512 channels are large, and rounded to half
    precision they differ by as much as what distinguishes neighbours.

    Args:
        features: (B,C,h,w), or queries where ``keys`` are given.
        keys: (B,C,h,w); None takes the features.
        scale: Multiplies inner products; 1 is the paper's, smaller is smoother.
        log: Give log P, which stays finite where P underflows.

    Returns:
        (B,N,N) with N = h w in row-major order; rows sum to 1 (their exponentials, with ``log``).

    Raises:
        UsageError: The shapes disagree or the scale is not positive.

    Source: Pan et al. 2021, "Scribble-Supervised Semantic Segmentation by Random Walk on Neural Representation and
        Self-Supervision on Neural Eigenspace", (4).
    """
    queries, keys = _positions(features, keys, scale)
    with torch.autocast(features.device.type, enabled=False):
        similarity = (scale * queries) @ keys.transpose(1, 2)
        return similarity.log_softmax(2) if log else similarity.softmax(2)


def random_walk_step(
    features: Tensor, keys: Tensor | None = None, values: Tensor | None = None, *, scale: float = 1.0
) -> Tensor:
    """P v, one step of the walk, without holding P: the same result as ``transition_matrix`` times values in linear memory.

    It is PyTorch's fused attention, forward and backward, in float32 or float64. On a CPU that needs equally many channels in
    keys and values; the fewer are filled up with zeros, which costs time but not the memory of (B,N,N).

    Args:
        features: (B,C,h,w), or queries where ``keys`` are given.
        keys: (B,C,h,w); None takes the features.
        values: (B,D,h,w); None takes the features.
        scale: See ``transition_matrix``.

    Returns:
        (B,D,h,w).

    Raises:
        UsageError: The shapes disagree or the scale is not positive.
    """
    values = features if values is None else values
    if values.ndim != 4 or values.shape[0] != features.shape[0] or values.shape[2:] != features.shape[2:]:
        raise UsageError(f"values must be (B,D,h,w) beside features {tuple(features.shape)}; got {tuple(values.shape)}")
    queries, keys = _positions(features, keys, scale)
    moved = values.flatten(2).transpose(1, 2).to(queries.dtype)
    width, more = moved.shape[2], moved.shape[2] - queries.shape[2]
    if more and features.device.type == "cpu":
        queries, keys, moved = (
            functional.pad(queries, (0, max(more, 0))),
            functional.pad(keys, (0, max(more, 0))),
            functional.pad(moved, (0, max(-more, 0))),
        )
    # in another memory layout PyTorch would form (B,N,N) without a word
    with torch.autocast(features.device.type, enabled=False):
        walked = functional.scaled_dot_product_attention(
            queries.contiguous()[:, None], keys.contiguous()[:, None], moved.contiguous()[:, None], scale=scale
        )
    return walked[:, 0, :, :width].transpose(1, 2).reshape(values.shape)


def transform_transition(
    transition: Tensor, transform: Transform, size: tuple[int, int], *, log: bool = False
) -> Tensor:
    """T(P), the transition matrix of the transformed features, from that of the features, by indexing.

    A flip reorders rows and columns (the exchange matrices of the paper). A vertical translation drops the rows and columns of
    positions that leave the image; what remains of each row is normalised again. Both are exact: softmax over fewer positions
    is the same softmax, normalised again.

    Args:
        transition: P, float (B,N,N).
        transform: See ``Transform``.
        size: Height and width (h,w) of the features, N = h w.
        log: ``transition`` is log P, and so is the result. Where P itself underflows so far that a whole row of what remains
            is 0, the row stays 0; log P has no such limit.

    Returns:
        (B,N',N') with N' = (h - abs(rows)) w.

    Raises:
        UsageError: P does not belong to this size, or the translation leaves nothing.

    Source: Pan et al. 2021 (see ``transition_matrix``), (9) and Fig. 3.
    """
    height, width = size
    count = height * width
    if transition.ndim != 3 or transition.shape[1:] != (count, count):
        raise UsageError(
            f"a transition matrix of {height}x{width} is (B,{count},{count}); got {tuple(transition.shape)}"
        )
    moved = transition.reshape(-1, *size, *size)
    moved = transform.features(transform.features(moved, axes=(1, 2)), axes=(3, 4)).flatten(3).flatten(1, 2)
    if not transform.rows:
        return moved
    if log:
        return moved.log_softmax(2)
    return moved / moved.sum(2, keepdim=True).clamp(min=torch.finfo(moved.dtype).tiny)


def _positions(features: Tensor, keys: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Queries and keys (B,N,C), in at least float32."""
    keys = features if keys is None else keys
    if features.ndim != 4 or keys.shape != features.shape:
        raise UsageError(
            f"features and keys must both be (B,C,h,w); got {tuple(features.shape)} and {tuple(keys.shape)}"
        )
    if not scale > 0:
        raise UsageError(f"scale must be positive; got {scale}")
    dtype = torch.promote_types(features.dtype, torch.float32)
    first, second = (maps.flatten(2).transpose(1, 2).to(dtype) for maps in (features, keys))
    return first, second
