"""Transition matrices of random walks on features, from the similarity of positions of a feature map."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wss.errors import UsageError
from wss.ops.transform import Transform


def transition_matrix(features: Tensor, keys: Tensor | None = None, *, scale: float = 1.0, log: bool = False) -> Tensor:
    """P = softmax(f' f) over rows: the probabilities of a step from each position to every position.

    It is computed in float32 or float64 even under autocast. Inner products of 512 channels are large; their rounding
    errors in half precision would be as large as the differences between neighbours.

    Args:
        features: (B,C,h,w); the queries if ``keys`` are given.
        keys: (B,C,h,w); None takes the features.
        scale: Factor of the inner products. The paper's is 1; a smaller value makes P smoother.
        log: Return log P, which stays finite where P underflows.

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


def feature_walk_step(
    features: Tensor, keys: Tensor | None = None, values: Tensor | None = None, *, scale: float = 1.0
) -> Tensor:
    """P v, one step of the walk: ``transition_matrix`` times values in linear memory.

    P is not stored. PyTorch's fused attention computes P v, forward and backward, in float32 or float64. On a CPU the
    fused attention needs equally many channels in keys and values. The smaller number is padded with zeros, which costs
    time but avoids the memory of (B,N,N).

    Args:
        features: (B,C,h,w); the queries if ``keys`` are given.
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
        raise UsageError(f"values must be (B,D,h,w) like features {tuple(features.shape)}; got {tuple(values.shape)}")
    queries, keys = _positions(features, keys, scale)
    moved = values.flatten(2).transpose(1, 2).to(queries.dtype)
    width, more = moved.shape[2], moved.shape[2] - queries.shape[2]
    if more and features.device.type == "cpu":
        queries, keys, moved = (
            functional.pad(queries, (0, max(more, 0))),
            functional.pad(keys, (0, max(more, 0))),
            functional.pad(moved, (0, max(-more, 0))),
        )
    # In another memory layout PyTorch would silently store (B,N,N).
    with torch.autocast(features.device.type, enabled=False):
        walked = functional.scaled_dot_product_attention(
            queries.contiguous()[:, None], keys.contiguous()[:, None], moved.contiguous()[:, None], scale=scale
        )
    return walked[:, 0, :, :width].transpose(1, 2).reshape(values.shape)


def transform_transition(
    transition: Tensor, transform: Transform, size: tuple[int, int], *, log: bool = False
) -> Tensor:
    """T(P): the transition matrix of the transformed features, computed from P by indexing.

    A flip reorders rows and columns (the exchange matrices of the paper). A vertical translation drops the rows and columns of
    positions that leave the image, and normalises the rest of each row. Both are exact, because a softmax over fewer
    positions equals the full softmax after normalisation.

    Args:
        transition: P, float (B,N,N).
        transform: See ``Transform``.
        size: Height and width (h,w) of the features, N = h w.
        log: ``transition`` and the result are log P. Without it, P can underflow so far that a whole remaining row is
            0; the row then stays 0. log P has no such limit.

    Returns:
        (B,N',N') with N' = (h - abs(rows)) w.

    Raises:
        UsageError: P does not have this size, or the translation leaves no row.

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
    """Queries and keys as (B,N,C), at least float32."""
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
